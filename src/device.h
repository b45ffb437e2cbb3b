/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _MEMSLOT_OPS_DEVICE_H
#define _MEMSLOT_OPS_DEVICE_H

#include <linux/types.h>
#include <linux/kvm_memslot_ops.h>

int memslot_device_register(u32 type);
void memslot_device_unregister(u32 type);

#endif /* _MEMSLOT_OPS_DEVICE_H */

/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _MEMSLOT_OPS_VENDOR_H
#define _MEMSLOT_OPS_VENDOR_H

#include <linux/types.h>

int vendor_init(u32 type);
void vendor_exit(void);

#endif /* _MEMSLOT_OPS_VENDOR_H */

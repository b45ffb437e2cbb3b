/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The operations.  Each checks its arguments, describes the new layout and
 * replaces the old one by it.
 */
#ifndef _MEMSLOT_OPS_OPS_H
#define _MEMSLOT_OPS_OPS_H

#include <linux/kvm_host.h>
#include <linux/kvm_memslot_ops.h>

int memslot_grow(struct kvm *kvm, const struct kvm_memslot_grow *args);

#endif /* _MEMSLOT_OPS_OPS_H */

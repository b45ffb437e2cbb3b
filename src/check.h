/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _MEMSLOT_OPS_CHECK_H
#define _MEMSLOT_OPS_CHECK_H

#include <linux/kvm_host.h>

int check_larger(const struct kvm_memory_slot *slot, u64 size);
int check_supported(struct kvm *kvm, const struct kvm_memory_slot *slot);

#endif /* _MEMSLOT_OPS_CHECK_H */

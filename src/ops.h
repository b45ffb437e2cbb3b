/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The operations.  Each checks its arguments, describes the new layout and
 * replaces the old one by it.
 *
 * They return how often the slot sets were swapped, which is 0 where nothing had
 * to change, or a negative error with nothing changed; docs/api.rst has the list.
 */
#ifndef _MEMSLOT_OPS_OPS_H
#define _MEMSLOT_OPS_OPS_H

#include <linux/kvm_host.h>
#include <linux/kvm_memslot_ops.h>

struct pinned_buffer;

/* Pieces after one split, slots before one merge. */
#define MEMSLOT_OPS_MAX_PIECES	64

int memslot_grow(struct kvm *kvm, const struct kvm_memslot_grow *args);
int memslot_shrink(struct kvm *kvm, const struct kvm_memslot_shrink *args,
		   const struct pinned_buffer *bits, size_t *wanted);
int memslot_split(struct kvm *kvm, const struct kvm_memslot_split *args);
int memslot_merge(struct kvm *kvm, const struct kvm_memslot_merge *args);
int memslot_set_readonly(struct kvm *kvm, const struct kvm_memslot_set_readonly *args);

#endif /* _MEMSLOT_OPS_OPS_H */

/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The dirty log while one layout replaces another.
 */
#ifndef _MEMSLOT_OPS_DIRTY_H
#define _MEMSLOT_OPS_DIRTY_H

#include "change.h"

int dirty_prepare(struct layout_change *c);
void dirty_carry(struct layout_change *c);
void dirty_await_zapped(const struct layout_change *c);
void dirty_report_leaving(struct layout_change *c);
void dirty_account(const struct layout_change *c);

void dirty_fold(unsigned long *to, unsigned long to_first,
		const unsigned long *from, unsigned long from_first, unsigned long nr);
bool dirty_rename(const struct layout_change *c, struct kvm_dirty_gfn *entry, bool is_new);

#endif /* _MEMSLOT_OPS_DIRTY_H */

/* SPDX-License-Identifier: MIT */
/*
 * When flags are changed.  A present slot can change as a whole before it is
 * split, its pieces one by one, or those that are merged together afterwards:
 * whatever takes the fewest steps.
 */
#ifndef KVM_LAYOUT_TOGGLES_H
#define KVM_LAYOUT_TOGGLES_H

#include "pieces.h"

/**
 * struct toggles - flags to change, for some pieces, slots or groups
 * @early: for each present slot, before it is split
 * @alone: for each piece, by itself
 * @group: for the first piece of each group of kept neighbours in one wanted slot,
 *	when these have been merged, before anything comes behind them
 * @group_end: for the same piece the index behind the group's last
 * @late: for each wanted slot, at the end
 */
struct toggles {
	uint32_t *early;
	uint32_t *alone;
	uint32_t *group;
	size_t *group_end;
	uint32_t *late;
};

/* Return: 0 or -ENOMEM */
int toggles_choose(struct toggles *toggles, const struct transition *t);
void toggles_destroy(struct toggles *toggles);

#endif /* KVM_LAYOUT_TOGGLES_H */

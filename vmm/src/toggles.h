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
 * @group: for the first piece of each group (kept neighbours in one wanted slot),
 *	when the group has been merged, before anything comes behind it
 * @late: for each wanted slot, at the end
 */
struct toggles {
	uint32_t *early;
	uint32_t *alone;
	uint32_t *group;
	uint32_t *late;
};

/* Return: 0 or -ENOMEM */
int toggles_choose(struct toggles *toggles, const struct transition *t);
void toggles_destroy(struct toggles *toggles);

/* The index behind the group's last piece. */
size_t group_end(const struct transition *t, size_t first);

#endif /* KVM_LAYOUT_TOGGLES_H */

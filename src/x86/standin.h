/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Stand-ins for arrays that a slot which has left lacks.
 */
#ifndef _MEMSLOT_OPS_STANDIN_H
#define _MEMSLOT_OPS_STANDIN_H

#include <linux/kvm_host.h>

/**
 * struct standin - arrays for slots that lack theirs
 * @npages: pages of the largest slot that they serve
 * @rmap: rmap heads that are all empty, for any level
 * @write_track: write-tracking counts, none of them 0
 */
struct standin {
	unsigned long npages;
	struct kvm_rmap_head *rmap;
	unsigned short *write_track;
};

int standin_init(void);
void standin_exit(void);
struct standin *standin_at_hand(unsigned long npages);
struct standin *standin_create(unsigned long npages);

#endif /* _MEMSLOT_OPS_STANDIN_H */

/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Read-only stand-ins for arrays that an outgoing slot lacks.
 */
#ifndef _MEMSLOT_OPS_STANDIN_H
#define _MEMSLOT_OPS_STANDIN_H

#include <linux/kvm_host.h>
#include <linux/kref.h>

/**
 * struct standin - arrays for slots of up to @npages pages
 * @ref: holders; the newest stand-in is kept until a larger one is made
 * @npages: pages of the largest slot that they serve
 * @rmap: rmap heads that are all empty, for any level
 * @write_track: write-tracking counts, none of them 0
 */
struct standin {
	struct kref ref;
	unsigned long npages;
	struct kvm_rmap_head *rmap;
	unsigned short *write_track;
};

int standin_init(void);
void standin_exit(void);
struct standin *standin_get(unsigned long npages);
void standin_put(struct standin *standin);

#endif /* _MEMSLOT_OPS_STANDIN_H */

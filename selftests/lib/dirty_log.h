/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The dirty log of slots that come and go, as a VMM collects it: in each of KVM's
 * modes, by bitmaps or by rings, and with what SHRINK says of the pages that it
 * takes. Of each page it is known whether the log named it since it was copied.
 */
#ifndef SELFTESTS_DIRTY_LOG_H
#define SELFTESTS_DIRTY_LOG_H

#include "kvm_util.h"

#include "layout_model.h"

enum dirty_log_mode {
	DIRTY_LOG_PLAIN,
	DIRTY_LOG_MANUAL,		/* what is read is cleared by another call */
	DIRTY_LOG_INIT,			/* the same, and all bits are set at first */
	DIRTY_LOG_RING,
	DIRTY_LOG_RING_BITMAP,
	NR_DIRTY_LOG_MODES,
};

extern const char *const dirty_log_mode_names[NR_DIRTY_LOG_MODES];

static inline bool dirty_log_has_rings(enum dirty_log_mode mode)
{
	return mode == DIRTY_LOG_RING || mode == DIRTY_LOG_RING_BITMAP;
}

struct dirty_log_config {
	struct kvm_vm *vm;
	enum dirty_log_mode mode;
	const struct layout *layout;	/* the slots that are now */
	uint64_t forget;		/* every Nth page that is named, on average; 0: none */
};

/* Has KVM log in that mode. Before the VM has vCPUs. */
void dirty_log_init(const struct dirty_log_config *config);
/* One whose ring is read, if there are rings: in the order of these calls. */
void dirty_log_add_vcpu(struct kvm_vcpu *vcpu);

/* Slots log from now on, or no longer do: the caller has them begin or end it. */
void dirty_log_turn(bool on);
/* As it was turned last. */
bool dirty_log_is_on(void);
/* Pages came into a slot, or their slot began or ended to log. */
void dirty_log_pages_arrive(uint64_t first, uint64_t nr_pages);
/*
 * SHRINK took these pages away. @bitmap is what it said of them; who does not ask
 * for the bits, with NULL, must take the whole tail for dirty.
 */
void dirty_log_take_tail(uint64_t first, uint64_t nr_pages, const uint64_t *bitmap);

/* Learns which pages are dirty. */
void dirty_log_get(void);
/* The same of one slot, by bitmap. */
void dirty_log_get_slot(const struct model_slot *s);
/* Lets KVM log the next write to what was got, where that is a step of its own. */
void dirty_log_clear(void);

/* All pages are to be copied, whatever the log says. */
void dirty_log_name_all(void);
/* Whether a page was named since it was taken to be copied. */
bool dirty_log_named(uint64_t page);
/* Whether it is to be copied, for who does so now. */
bool dirty_log_take(uint64_t page);

/* Entries of rings that named pages of a tail. */
uint64_t dirty_log_nr_tail_entries(void);

#endif

/* SPDX-License-Identifier: GPL-2.0 */
/*
 * External page-write trackers, as KVMGT is one. Each is a file descriptor of
 * modules/page_tracker.c, and leaves the VM when that is closed.
 */
#ifndef SELFTESTS_TRACKER_H
#define SELFTESTS_TRACKER_H

#include "../modules/page_tracker.h"

#include "kvm_util.h"

/* Whether the host has them. */
bool tracker_possible(void);

int tracker_open(struct kvm_vm *vm);
void tracker_attach(int tracker);
void tracker_detach(int tracker);
/* The first as a call for async_start(), of a pointer to the tracker. */
int tracker_call_attach(void *tracker);

/*
 * Tracks the writes to a page once more, or once less; the tracker need not be
 * attached for that.
 */
void tracker_add(int tracker, uint64_t gpa);
void tracker_remove(int tracker, uint64_t gpa);

struct page_tracker_news tracker_news(int tracker);

#endif

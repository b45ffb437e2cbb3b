/* SPDX-License-Identifier: GPL-2.0 */
/*
 * /dev/page_tracker: who opens it has a page-write tracker of KVM's, such as a
 * virtual GPU has, for one VM.
 */
#ifndef SELFTESTS_PAGE_TRACKER_H
#define SELFTESTS_PAGE_TRACKER_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* What the tracker was told. */
struct page_tracker_news {
	__u64 nr_writes;
	__u64 gpa, data, len;		/* of the last write */
	__u64 nr_removals;
	__u64 gfn, nr_pages;		/* of the last slot that was removed */
};

/* The VM to be tracked, by its file descriptor: once, before all others. */
#define PAGE_TRACKER_VM		_IO('t', 0)
#define PAGE_TRACKER_ATTACH	_IO('t', 1)
#define PAGE_TRACKER_DETACH	_IO('t', 2)
/*
 * Begin and end to track the writes to a gfn. Like KVM, this does not ask whether
 * the tracker is attached: what is tracked is a count.
 */
#define PAGE_TRACKER_ADD	_IO('t', 3)
#define PAGE_TRACKER_REMOVE	_IO('t', 4)
#define PAGE_TRACKER_NEWS	_IOR('t', 5, struct page_tracker_news)

#endif

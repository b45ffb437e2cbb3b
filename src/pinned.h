/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A buffer of user space's that is written to when it is too late to fail.
 */
#ifndef _MEMSLOT_OPS_PINNED_H
#define _MEMSLOT_OPS_PINNED_H

#include <linux/types.h>

/**
 * struct pinned_buffer - a part of user space's memory, held in place
 * @addr: where the kernel finds it, or NULL where nothing is held
 * @pages: the pages that it is in
 * @nr_pages: how many
 */
struct pinned_buffer {
	void *addr;
	struct page **pages;
	unsigned long nr_pages;
};

int pinned_buffer_get(struct pinned_buffer *buffer, u64 uaddr, size_t bytes);
void pinned_buffer_put(struct pinned_buffer *buffer);

#endif /* _MEMSLOT_OPS_PINNED_H */

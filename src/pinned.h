/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A buffer of user space's that is written to when it is too late to fail.
 */
#ifndef _MEMSLOT_OPS_PINNED_H
#define _MEMSLOT_OPS_PINNED_H

#include <linux/types.h>

/**
 * struct pinned_buffer - a part of user space's memory, held in place
 * @bytes: its size, 0 where nothing is held
 * @offset: where it begins in the first page
 * @pages: the pages that it is in
 * @nr_pages: how many
 */
struct pinned_buffer {
	size_t bytes;
	unsigned int offset;
	struct page **pages;
	unsigned long nr_pages;
};

int pinned_buffer_get(struct pinned_buffer *buffer, u64 uaddr, size_t bytes);
void pinned_buffer_put(struct pinned_buffer *buffer);
void pinned_buffer_write(const struct pinned_buffer *buffer, const void *from, size_t bytes);

#endif /* _MEMSLOT_OPS_PINNED_H */

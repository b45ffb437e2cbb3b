// SPDX-License-Identifier: GPL-2.0
/*
 * An operation lasts as long as somebody sleeps in a page fault, and that is as long as user
 * space likes.  So a pin is one for long: it counts against RLIMIT_MEMLOCK, and memory that
 * the host may want to empty is left before.
 */
#include <linux/highmem.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "pinned.h"

static int pin_all(struct page **pages, unsigned long start, unsigned long nr,
		   unsigned long *nr_pinned)
{
	/* 6.1 would not wait for user space to bring a page that it is to pin for long. */
	fault_in_safe_writeable((const char __user *)start, nr << PAGE_SHIFT);

	while (*nr_pinned < nr) {
		/* Interrupts are off for as long as nothing has to be faulted in. */
		int n = pin_user_pages_fast(start + (*nr_pinned << PAGE_SHIFT),
					    min(nr - *nr_pinned, 512UL),
					    FOLL_WRITE | FOLL_LONGTERM, pages + *nr_pinned);

		if (n > 0)
			*nr_pinned += n;
		if (fatal_signal_pending(current))
			return -EINTR;
		if (n <= 0)
			return n == -ENOMEM ? n : -EFAULT;
	}

	return 0;
}

/**
 * pinned_buffer_get() - hold a buffer of the current process in place
 * @buffer: what is to hold it, and holds nothing; pinned_buffer_put() is due in either case
 * @uaddr: its address; need not be aligned
 * @bytes: its size, not 0
 *
 * Context: Sleeps, for as long as user space likes, but not beyond a fatal signal: no lock
 *	should be held that others wait for.
 * Return: 0, -EFAULT where user space could not write to it, -EINTR, or -ENOMEM, also where it
 *	is more than the process may lock.
 */
int pinned_buffer_get(struct pinned_buffer *buffer, u64 uaddr, size_t bytes)
{
	unsigned long nr = DIV_ROUND_UP(offset_in_page(uaddr) + bytes, PAGE_SIZE);
	unsigned long nr_pinned = 0;
	struct page **pages;
	int r;

	if (!access_ok((void __user *)uaddr, bytes))
		return -EFAULT;

	r = account_locked_vm(current->mm, nr, true);
	if (r)
		return r;

	r = -ENOMEM;
	pages = kvmalloc_array(nr, sizeof(*pages), GFP_KERNEL_ACCOUNT);
	if (!pages)
		goto out_unaccount;

	r = pin_all(pages, uaddr & PAGE_MASK, nr, &nr_pinned);
	if (r)
		goto out_unpin;

	*buffer = (struct pinned_buffer) {
		.bytes = bytes,
		.offset = offset_in_page(uaddr),
		.pages = pages,
		.nr_pages = nr,
	};

	return 0;

out_unpin:
	unpin_user_pages(pages, nr_pinned);
	kvfree(pages);
out_unaccount:
	account_locked_vm(current->mm, nr, false);
	return r;
}

/**
 * pinned_buffer_put() - let a buffer go that has been written to, or might have been
 * @buffer: what holds it, and holds nothing then; nothing happens if it does not now
 *
 * Context: Sleeps; in the process that called pinned_buffer_get().
 */
void pinned_buffer_put(struct pinned_buffer *buffer)
{
	if (!buffer->bytes)
		return;

	unpin_user_pages_dirty_lock(buffer->pages, buffer->nr_pages, true);
	kvfree(buffer->pages);
	account_locked_vm(current->mm, buffer->nr_pages, false);
	*buffer = (struct pinned_buffer) {};
}

/**
 * pinned_buffer_write() - write to a buffer, from its start on
 * @buffer: what holds it
 * @from: what is written
 * @bytes: how much, not more than it has
 *
 * Context: Sleeps.
 */
void pinned_buffer_write(const struct pinned_buffer *buffer, const void *from, size_t bytes)
{
	size_t offset = buffer->offset, n;
	struct page **page = buffer->pages;

	for (; bytes; bytes -= n, from += n, offset = 0, page++) {
		n = min(bytes, PAGE_SIZE - offset);
		memcpy_to_page(*page, offset, from, n);
		cond_resched();
	}
}

// SPDX-License-Identifier: GPL-2.0
#include <linux/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#include "pinned.h"

static int pin_all(struct pinned_buffer *buffer, unsigned long start, unsigned long nr)
{
	while (buffer->nr_pages < nr) {
		int n = pin_user_pages_fast(start + (buffer->nr_pages << PAGE_SHIFT),
					    nr - buffer->nr_pages, FOLL_WRITE,
					    buffer->pages + buffer->nr_pages);

		if (fatal_signal_pending(current))
			return -EINTR;
		if (n <= 0)
			return n == -ENOMEM ? n : -EFAULT;
		buffer->nr_pages += n;
	}

	return 0;
}

/**
 * pinned_buffer_get() - hold a buffer of the current process in place
 * @buffer: what holds it, to be given to pinned_buffer_put() if this succeeds
 * @uaddr: its address; need not be aligned
 * @bytes: its size, not 0
 *
 * Context: Sleeps; faults the buffer in.
 * Return: 0, -EFAULT where user space could not write to it, -ENOMEM, or -EINTR.
 */
int pinned_buffer_get(struct pinned_buffer *buffer, u64 uaddr, size_t bytes)
{
	unsigned long nr = DIV_ROUND_UP(offset_in_page(uaddr) + bytes, PAGE_SIZE);
	void *addr;
	int r;

	if (!access_ok((void __user *)uaddr, bytes))
		return -EFAULT;

	*buffer = (struct pinned_buffer) {
		.pages = kvmalloc_array(nr, sizeof(*buffer->pages), GFP_KERNEL_ACCOUNT),
	};
	if (!buffer->pages)
		return -ENOMEM;

	r = pin_all(buffer, uaddr & PAGE_MASK, nr);
	if (r)
		goto out_unpin;

	r = -ENOMEM;
	addr = vmap(buffer->pages, nr, VM_MAP, PAGE_KERNEL);
	if (!addr)
		goto out_unpin;
	buffer->addr = addr + offset_in_page(uaddr);

	return 0;

out_unpin:
	unpin_user_pages(buffer->pages, buffer->nr_pages);
	kvfree(buffer->pages);
	return r;
}

/**
 * pinned_buffer_put() - let a buffer go that has been written to, or might have been
 * @buffer: what holds it; nothing happens if it holds nothing
 *
 * Context: Sleeps.
 */
void pinned_buffer_put(struct pinned_buffer *buffer)
{
	if (!buffer->addr)
		return;

	vunmap((void *)((unsigned long)buffer->addr & PAGE_MASK));
	unpin_user_pages_dirty_lock(buffer->pages, buffer->nr_pages, true);
	kvfree(buffer->pages);
}

// SPDX-License-Identifier: GPL-2.0
/*
 * KVM keeps arrays with an element for each page of a slot, or for each huge frame, or
 * with a bit; they become as large as 1/400 of guest memory.  To copy them costs what a
 * slot is large, not what changes, and what others write meanwhile would be lost.  So a
 * new array shares the pages of the old ones, where its elements have the same place in
 * their page: both are the same memory then, until KVM frees either, which drops a
 * reference to each page.
 *
 * An array that is longer than its slot needs leaves room to grow.  Nobody has to remember
 * that, for vmalloc knows how long it is.
 */
#include <linux/gfp.h>
#include <linux/kasan.h>
#include <linux/kmemleak.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/vmalloc.h>

#include "array.h"
#include "wrapper/kvm.h"

static bool can_share(const struct array_part *part)
{
	return part->bytes && is_vmalloc_addr(part->from) &&
	       PAGE_ALIGNED(part->from) && PAGE_ALIGNED(part->at);
}

static int share_pages(struct page **pages, const struct array_part *part)
{
	size_t offset;

	for (offset = 0; offset < part->bytes; offset += PAGE_SIZE) {
		struct page *page = vmalloc_to_page(part->from + offset);

		if (fatal_signal_pending(current))
			return -EINTR;
		get_page(page);
		pages[(part->at + offset) >> PAGE_SHIFT] = page;
		cond_resched();
	}

	return 0;
}

static int fill_up(struct page **pages, unsigned long nr)
{
	unsigned long i;

	for (i = 0; i < nr; i++) {
		if (pages[i])
			continue;

		/* Whoever is to die shall not take what is left. */
		if (fatal_signal_pending(current))
			return -EINTR;
		pages[i] = alloc_page(GFP_KERNEL_ACCOUNT | __GFP_ZERO);
		if (!pages[i])
			return -ENOMEM;
		cond_resched();
	}

	return 0;
}

static void put_pages(struct page **pages, unsigned long nr)
{
	unsigned long i;

	for (i = 0; i < nr; i++) {
		if (pages[i])
			__free_page(pages[i]);
		cond_resched();
	}
	kvfree(pages);
}

/**
 * array_build() - allocate an array that shares memory with others
 * @bytes: how long it is to be
 * @parts: what it is to have in common with them; no two of these touch the same page
 *	unless one begins inside of it, and is not shared then
 * @nr: how many
 *
 * A part is shared if it begins with a page in both arrays; it shares its last page to the
 * end.  What is not shared with any is zero.
 *
 * Context: Sleeps.
 * Return: the array, for vfree(), or NULL where there is no memory or a fatal signal is
 *	pending.
 */
void *array_build(size_t bytes, struct array_part *parts, unsigned int nr)
{
	unsigned long nr_pages = DIV_ROUND_UP(bytes, PAGE_SIZE);
	unsigned int i, nr_shared = 0;
	void *array = NULL;
	struct page **pages;
	int r = 0;

	for (i = 0; i < nr; i++) {
		parts[i].shared = can_share(&parts[i]);
		nr_shared += parts[i].shared;
	}
	if (!nr_shared)
		return __vcalloc(1, bytes, GFP_KERNEL_ACCOUNT);

	pages = kvcalloc(nr_pages, sizeof(*pages), GFP_KERNEL_ACCOUNT);
	if (!pages)
		return NULL;

	for (i = 0; i < nr && !r; i++) {
		if (parts[i].shared)
			r = share_pages(pages, &parts[i]);
	}

	r = r ?: fill_up(pages, nr_pages);
	if (!r)
		array = vmap(pages, nr_pages, VM_MAP | VM_MAP_PUT_PAGES, PAGE_KERNEL);
	if (!array) {
		put_pages(pages, nr_pages);
		return NULL;
	}

	/* It may lead to what nothing else leads to, once the others are gone. */
	kmemleak_alloc(array, nr_pages * PAGE_SIZE, 0, GFP_KERNEL);

	return array;
}

/* In bytes, how far to go before others may run. */
#define STEP	SZ_1M

/**
 * array_clear() - make a part of an array zero
 * @from: where it begins
 * @bytes: how long it is
 *
 * Context: Sleeps.
 */
void array_clear(void *from, size_t bytes)
{
	size_t step;

	for (; bytes; bytes -= step, from += step) {
		step = min_t(size_t, bytes, STEP);
		memset(from, 0, step);
		cond_resched();
	}
}

/**
 * array_is_clear() - is a part of an array zero?
 * @from: where it begins
 * @bytes: how long it is
 *
 * Context: Sleeps.
 */
bool array_is_clear(const void *from, size_t bytes)
{
	size_t step;

	for (; bytes; bytes -= step, from += step) {
		step = min_t(size_t, bytes, STEP);
		if (memchr_inv(from, 0, step))
			return false;
		cond_resched();
	}

	return true;
}

/* KASAN lets nobody use the rest of a page behind what was asked of vmalloc(). */
static bool is_accessible(const void *from, const void *to)
{
#ifdef CONFIG_KASAN_GENERIC
	const char *first = kasan_mem_to_shadow(from), *last = kasan_mem_to_shadow(to - 1);

	return !memchr_inv(first, 0, last + 1 - first);
#else
	return true;
#endif
}

/* In bytes; 0 if it is not of vmalloc's. */
static size_t length(const void *array)
{
	struct vm_struct *area;

	if (!is_vmalloc_addr(array))
		return 0;

	area = kvm_call(find_vm_area)(array);

	return area && area->addr == array ? get_vm_area_size(area) : 0;
}

/**
 * array_reaches() - is an array longer than it is known to be?
 * @array: the array, from its start
 * @bytes: how long it is at least
 * @wanted: how long it should be
 *
 * Return: whether it is that long.
 */
bool array_reaches(const void *array, size_t bytes, size_t wanted)
{
	return wanted <= bytes ||
	       (wanted <= length(array) && is_accessible(array + bytes, array + wanted));
}

/**
 * array_is_too_long() - does an array take much more memory than it needs?
 * @array: the array, from its start
 * @needed: in bytes, what is used of it
 *
 * Return: whether it is longer by more than half.
 */
bool array_is_too_long(const void *array, size_t needed)
{
	return length(array) > PAGE_ALIGN(needed + needed / 2);
}

/**
 * array_is_alone() - does no other array share memory of a part?
 * @array: the array, which is of vmalloc's
 * @from: where the part begins, in bytes
 * @to: where it ends
 *
 * The page that it begins in, if not at its start, does not count: what is before is in use, and
 * others share pages from their own start on.
 */
bool array_is_alone(const void *array, size_t from, size_t to)
{
	size_t offset;

	for (offset = PAGE_ALIGN(from); offset < to; offset += PAGE_SIZE) {
		if (page_count(vmalloc_to_page(array + offset)) != 1)
			return false;
		cond_resched();
	}

	return true;
}

/**
 * array_common() - how much of two arrays, or parts of them, is the same memory?
 * @a: one
 * @b: the other
 * @bytes: how long both are at least
 *
 * Return: in bytes, from the start on.
 */
size_t array_common(const void *a, const void *b, size_t bytes)
{
	size_t offset;

	if (a == b)
		return bytes;
	if (!is_vmalloc_addr(a) || !is_vmalloc_addr(b) || !PAGE_ALIGNED(a) || !PAGE_ALIGNED(b))
		return 0;

	for (offset = 0; offset < bytes; offset += PAGE_SIZE) {
		if (vmalloc_to_page(a + offset) != vmalloc_to_page(b + offset))
			return offset;
		cond_resched();
	}

	return bytes;
}

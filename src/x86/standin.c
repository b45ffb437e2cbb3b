// SPDX-License-Identifier: GPL-2.0
/*
 * A vCPU may allocate the VM's first shadow root at any moment that
 * slots_arch_lock is free.  From then on KVM takes for granted that every slot
 * has rmaps and write-tracking counts, and gives them to the slots of the active
 * set.  A reader that still holds a slot of the set before would follow a NULL
 * pointer: a host oops that a guest can time.  So slots that lack these arrays
 * get stand-ins before they leave:
 *
 * - rmap heads that are empty: an aging notifier finds nothing to age;
 * - write-tracking counts that are *not* 0: a stale fault takes the page for
 *   tracked and does not map it writable; the write is emulated, or retried with
 *   the new slot.  Zeros would let a guest page table become writable behind KVM's
 *   back.
 *
 * Nobody writes to them: that takes a shadow root, and whoever has one started
 * reading after the swap.  They are one page each, mapped repeatedly and
 * read-only, 5 MiB of host page tables for each TiB of the largest slot seen;
 * and the same for all VMs, so that only a slot larger than any before costs
 * more than a reference.
 */
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/overflow.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "standin.h"

static DEFINE_MUTEX(standin_mutex);
static struct standin *standin_largest;	/* protected by standin_mutex */

static struct page *page_of_zeros;
static struct page *page_of_ones;

/**
 * standin_init() - allocate the pages that all stand-ins are made of
 *
 * Context: Module initialisation.
 * Return: 0 or -ENOMEM.
 */
int standin_init(void)
{
	page_of_zeros = alloc_page(GFP_KERNEL | __GFP_ZERO);
	page_of_ones = alloc_page(GFP_KERNEL);
	if (!page_of_zeros || !page_of_ones) {
		standin_exit();
		return -ENOMEM;
	}

	memset(page_address(page_of_ones), 0xff, PAGE_SIZE);

	return 0;
}

/**
 * standin_exit() - undo standin_init()
 *
 * Context: Module initialisation that failed, or module exit: nobody has a stand-in.
 */
void standin_exit(void)
{
	if (standin_largest)
		standin_put(standin_largest);
	if (page_of_zeros)
		__free_page(page_of_zeros);
	if (page_of_ones)
		__free_page(page_of_ones);
}

static void *map_repeatedly(struct page *page, size_t bytes)
{
	unsigned long i, nr_pages = DIV_ROUND_UP(bytes, PAGE_SIZE);
	struct page **pages;
	void *addr;

	pages = kvmalloc_array(nr_pages, sizeof(*pages), GFP_KERNEL);
	if (!pages)
		return NULL;

	for (i = 0; i < nr_pages; i++)
		pages[i] = page;

	addr = vmap(pages, nr_pages, VM_MAP, PAGE_KERNEL_RO);
	kvfree(pages);

	return addr;
}

static void standin_free(struct kref *ref)
{
	struct standin *standin = container_of(ref, struct standin, ref);

	vunmap(standin->rmap);
	vunmap(standin->write_track);
	kfree(standin);
}

static struct standin *standin_alloc(unsigned long npages)
{
	struct standin *standin;

	standin = kzalloc(sizeof(*standin), GFP_KERNEL);
	if (!standin)
		return NULL;

	kref_init(&standin->ref);
	standin->npages = npages;
	standin->rmap = map_repeatedly(page_of_zeros, array_size(npages, sizeof(*standin->rmap)));
	if (standin->rmap)
		standin->write_track = map_repeatedly(page_of_ones,
						      array_size(npages,
								 sizeof(*standin->write_track)));
	if (!standin->write_track) {
		standin_free(&standin->ref);
		return NULL;
	}

	return standin;
}

/* The largest there is, if it will do. */
static struct standin *standin_try_get(unsigned long npages)
{
	struct standin *standin = NULL;

	mutex_lock(&standin_mutex);
	if (standin_largest && standin_largest->npages >= npages) {
		standin = standin_largest;
		kref_get(&standin->ref);
	}
	mutex_unlock(&standin_mutex);

	return standin;
}

/**
 * standin_get() - get stand-ins that are long enough
 * @npages: pages of the largest slot that needs them, not 0
 *
 * Context: Sleeps.
 * Return: the stand-ins, to be given back with standin_put(), or NULL where
 *	there is no memory.
 */
struct standin *standin_get(unsigned long npages)
{
	struct standin *standin, *smaller = NULL;

	standin = standin_try_get(npages);
	if (standin)
		return standin;

	/* With room for a slot that grows; vmap() may have no room for that, though. */
	standin = standin_alloc(roundup_pow_of_two(npages)) ?: standin_alloc(npages);
	if (!standin)
		return NULL;

	mutex_lock(&standin_mutex);
	if (!standin_largest || standin_largest->npages < standin->npages) {
		smaller = standin_largest;
		standin_largest = standin;
		kref_get(&standin->ref);
	}
	mutex_unlock(&standin_mutex);

	if (smaller)
		standin_put(smaller);

	return standin;
}

/**
 * standin_put() - give stand-ins back
 * @standin: as standin_get() returned it; no slot that anybody can reach may
 *	refer to its arrays
 *
 * Context: Sleeps.
 */
void standin_put(struct standin *standin)
{
	kref_put(&standin->ref, standin_free);
}

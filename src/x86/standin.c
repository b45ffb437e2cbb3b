// SPDX-License-Identifier: GPL-2.0
/*
 * A vCPU may allocate the VM's first shadow root at any moment that
 * slots_arch_lock is free.  From then on KVM takes for granted that every slot
 * has rmaps and write-tracking counts, and gives them to the slots of the active
 * set.  A reader that still holds a slot of the set before would follow a NULL
 * pointer: a host oops that a guest can time.  So before that lock is released, slots that
 * have left and lack these arrays get stand-ins:
 *
 * - rmap heads that are empty: an aging notifier finds nothing to age;
 * - write-tracking counts that are *not* 0: a stale fault takes the page for
 *   tracked and does not map it writable; the write is emulated, or retried with
 *   the new slot.  Zeros would let a guest page table become writable behind KVM's
 *   back.
 *
 * Nobody writes to them: that takes a shadow root, and whoever has one started
 * reading after the swap.  So the same ones serve all slots that are not larger than they are.
 * For larger slots it would cost too much to have them from the start: there slots_arch_lock is
 * kept until the readers are gone, as a rule.  But one may wait for that lock itself, or sleep
 * until user space has resolved a page fault; then stand-ins are made, and kept.
 *
 * They are one page each, mapped repeatedly: 5 MiB of host page tables for each TiB of the
 * largest slot, which vmalloc would keep anyway.  No memory cgroup is charged for these.  So
 * they are the host's, and not a VM's: there are never two for slots of the same size.
 */
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/overflow.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "standin.h"

/* In pages, the slots that the first ones serve: 64 GiB, for 320 KiB of host page tables. */
#define NPAGES_FIRST	(64UL * SZ_1G >> PAGE_SHIFT)

/* Each serves slots twice as large as the one before; the last one, all that KVM has. */
#define NR_STANDINS	8

static struct page *page_of_zeros;
static struct page *page_of_ones;
static struct standin *standins[NR_STANDINS];
static DEFINE_MUTEX(standins_mutex);	/* held to make one */

static void *map_repeatedly(struct page *page, unsigned long nr)
{
	struct page **pages;
	unsigned long i;
	void *addr;

	pages = kvmalloc_array(nr, sizeof(*pages), GFP_KERNEL);
	if (!pages)
		return NULL;

	for (i = 0; i < nr; i++)
		pages[i] = page;

	/* vmap() would not map more pages than the host has. */
	addr = vm_map_ram(pages, nr, NUMA_NO_NODE);
	kvfree(pages);

	return addr;
}

static unsigned long nr_pages(unsigned long npages, size_t size)
{
	return DIV_ROUND_UP(npages * size, PAGE_SIZE);
}

static void standin_destroy(struct standin *standin)
{
	if (standin->rmap)
		vm_unmap_ram(standin->rmap, nr_pages(standin->npages, sizeof(*standin->rmap)));
	if (standin->write_track)
		vm_unmap_ram(standin->write_track,
			     nr_pages(standin->npages, sizeof(*standin->write_track)));
	kfree(standin);
}

static struct standin *make(unsigned long npages)
{
	struct standin *standin = kzalloc(sizeof(*standin), GFP_KERNEL);

	if (!standin)
		return NULL;

	standin->npages = npages;
	standin->rmap = map_repeatedly(page_of_zeros, nr_pages(npages, sizeof(*standin->rmap)));
	standin->write_track = map_repeatedly(page_of_ones,
					      nr_pages(npages, sizeof(*standin->write_track)));
	if (!standin->rmap || !standin->write_track) {
		standin_destroy(standin);
		return NULL;
	}

	return standin;
}

/**
 * standin_create() - stand-ins that are long enough, which are made if need be
 * @npages: pages of the largest slot that needs them
 *
 * Context: Sleeps.
 * Return: the stand-ins, or NULL where there is no memory.
 */
struct standin *standin_create(unsigned long npages)
{
	unsigned int i = order_base_2(DIV_ROUND_UP(npages, NPAGES_FIRST));
	struct standin *standin;

	BUILD_BUG_ON(NPAGES_FIRST << (NR_STANDINS - 1) < KVM_MEM_MAX_NR_PAGES);

	mutex_lock(&standins_mutex);
	standin = standin_at_hand(npages);
	if (!standin) {
		standin = make(NPAGES_FIRST << i);
		/* Pairs with the acquire in standin_at_hand(). */
		smp_store_release(&standins[i], standin);
	}
	mutex_unlock(&standins_mutex);

	return standin;
}

/**
 * standin_init() - make the stand-ins that are there from the start
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

	if (!standin_create(NPAGES_FIRST)) {
		standin_exit();
		return -ENOMEM;
	}

	return 0;
}

/**
 * standin_exit() - undo standin_init()
 *
 * Context: Module initialisation that failed, or module exit: nobody has a stand-in.
 */
void standin_exit(void)
{
	unsigned int i;

	for (i = 0; i < NR_STANDINS; i++) {
		if (standins[i])
			standin_destroy(standins[i]);
	}
	if (page_of_zeros)
		__free_page(page_of_zeros);
	if (page_of_ones)
		__free_page(page_of_ones);
}

/**
 * standin_at_hand() - stand-ins that need not be made
 * @npages: pages of the largest slot that needs them
 *
 * Return: the stand-ins, or NULL where none are long enough.
 */
struct standin *standin_at_hand(unsigned long npages)
{
	unsigned int i;

	for (i = 0; i < NR_STANDINS; i++) {
		/* Nobody takes it away again. */
		struct standin *standin = smp_load_acquire(&standins[i]);

		if (standin && npages <= standin->npages)
			return standin;
	}

	return NULL;
}

// SPDX-License-Identifier: GPL-2.0
/*
 * A slot that logs writes has a bitmap, or its pages are named in the vCPUs' dirty
 * rings by slot number and offset; after an operation either must speak of the new
 * layout.
 *
 * Until the readers of the old set are gone, some of them mark pages in old slots and
 * others in new ones.  So the first new slot keeps the first old one's bitmap, or all have
 * bitmaps that are the same memory, as far as that can be; what is in other memory of the old
 * ones is added when nobody sets bits there any more.  What is in the rings is renamed then.
 * Nobody reads the log meanwhile: that takes slots_lock.
 *
 * Behind the bits of each there is as much again, which KVM uses while somebody reads the
 * log.  So no two slots that stay may have memory in common.
 */
#include <linux/bitmap.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "array.h"
#include "compat/compat.h"
#include "dirty.h"
#include "pinned.h"
#include "wrapper/kvm.h"

/* User space can name no such slot; KVM drops an entry that does. */
#define NO_SLOT		KVM_MEM_SLOTS_NUM

static bool keep_bitmaps(const struct layout_change *c)
{
	unsigned int i;

	for (i = 0; i < c->nr_old; i++) {
		if (c->old[i]->dirty_bitmap)
			return true;
	}

	return false;
}

/* With what is KVM's. */
static size_t bitmap_bytes(struct kvm_memory_slot *slot)
{
	return 2 * kvm_dirty_bitmap_bytes(slot);
}

/* Can the first new slot have the very bitmap of the first old one? */
static bool can_keep(const struct layout_change *c)
{
	struct kvm_memory_slot *old = c->old[0];

	return old->dirty_bitmap &&
	       array_reaches(old->dirty_bitmap, bitmap_bytes(old), bitmap_bytes(c->new[0])) &&
	       !array_is_too_long(old->dirty_bitmap, bitmap_bytes(c->new[0]));
}

/* Of the pages that two slots have in common, the place of the first in either, and how many. */
static gfn_t overlap(const struct kvm_memory_slot *new, const struct kvm_memory_slot *old,
		     gfn_t *in_new, gfn_t *in_old)
{
	gfn_t first = max(new->base_gfn, old->base_gfn);
	gfn_t end = min(new->base_gfn + new->npages, old->base_gfn + old->npages);

	*in_new = first - new->base_gfn;
	*in_old = first - old->base_gfn;

	return first < end ? end - first : 0;
}

/* Of a bitmap. */
#define BITS_PER_PAGE	(PAGE_SIZE * BITS_PER_BYTE)

/*
 * What a bitmap can have in common with an old one: whole pages of bits; and as many that are
 * KVM's in both, to @spare, whatever is in them.  Returns the number of parts.
 */
static unsigned int share_bitmap(const struct kvm_memory_slot *new, struct kvm_memory_slot *old,
				 struct array_part *parts, size_t *spare)
{
	gfn_t at, from, nr = overlap(new, old, &at, &from);
	size_t bytes;

	if (!old->dirty_bitmap || !nr || at % BITS_PER_PAGE || from % BITS_PER_PAGE)
		return 0;

	bytes = round_down(nr / BITS_PER_BYTE, PAGE_SIZE);
	parts[0] = (struct array_part) {
		.from = (void *)old->dirty_bitmap + from / BITS_PER_BYTE,
		.at = at / BITS_PER_BYTE,
		.bytes = bytes,
	};
	parts[1] = (struct array_part) {
		.from = parts[0].from + PAGE_ALIGN(kvm_dirty_bitmap_bytes(old)),
		.at = *spare,
		.bytes = bytes,
	};
	*spare += bytes;

	return 2;
}

/* A bitmap of memory that the old ones have as far as possible, and is 0 otherwise. */
static unsigned long *build_bitmap(struct layout_change *c, struct kvm_memory_slot *new)
{
	size_t spare = PAGE_ALIGN(kvm_dirty_bitmap_bytes(new)), bytes = bitmap_bytes(new);
	struct array_part *parts;
	unsigned int i, nr = 0;
	unsigned long *bitmap;

	parts = kcalloc(2 * c->nr_old, sizeof(*parts), GFP_KERNEL_ACCOUNT);
	if (!parts)
		return NULL;

	for (i = 0; i < c->nr_old; i++)
		nr += share_bitmap(new, c->old[i], parts + nr, &spare);
	/* What has grown may do so again. */
	bitmap = array_build(c->nr_old > 1 ? bytes + bytes / 8 : bytes, parts, nr);
	kfree(parts);

	return bitmap;
}

/* The first new slot has the first old one's bitmap: what was KVM's of it is bits now. */
static unsigned long *keep_bitmap(struct layout_change *c)
{
	size_t old = kvm_dirty_bitmap_bytes(c->old[0]), new = kvm_dirty_bitmap_bytes(c->new[0]);
	unsigned long *bitmap = c->old[0]->dirty_bitmap;

	if (new > old)
		array_clear((void *)bitmap + old, new - old);

	return bitmap;
}

/* While one of the new slots keeps the whole of an old bitmap, others have nothing of it. */
static unsigned long *new_bitmap(struct layout_change *c, struct kvm_memory_slot *new)
{
	if (!can_keep(c))
		return build_bitmap(c, new);

	return new == c->new[0] ? keep_bitmap(c) :
	       __vcalloc(1, bitmap_bytes(new), GFP_KERNEL_ACCOUNT);
}

static u32 ring_end(struct kvm_dirty_ring *ring)
{
	/* A vCPU moves it on by a plain store: what is read is an end that the ring has had. */
	return data_race(READ_ONCE(ring->dirty_index));
}

/* A ring has entries for what left earlier, and these have the number of what comes. */
static int note_ring_ends(struct layout_change *c)
{
	unsigned int nr = atomic_read(&c->kvm->online_vcpus);
	struct kvm_vcpu *vcpu;
	unsigned long id;

	c->ring_ends = kcalloc(nr, sizeof(*c->ring_ends), GFP_KERNEL_ACCOUNT);
	if (!c->ring_ends)
		return -ENOMEM;

	c->nr_ring_ends = nr;
	kvm_for_each_vcpu(id, vcpu, c->kvm) {
		if (id < nr)
			c->ring_ends[id] = ring_end(&vcpu->dirty_ring);
	}

	return 0;
}

/**
 * dirty_prepare() - give the new slots bitmaps, if the old ones have any, and look at the rings
 * @c: the change; what comes has not been admitted
 *
 * A slot may log without a bitmap, if the VM has dirty rings.
 *
 * Context: slots_lock held; sleeps.
 * Return: 0 or -ENOMEM; change_destroy() frees what was allocated.
 */
int dirty_prepare(struct layout_change *c)
{
	unsigned int i;
	int r;

	if (c->coming && c->kvm->dirty_ring_size && kvm_slot_dirty_track_enabled(c->coming)) {
		r = note_ring_ends(c);
		if (r)
			return r;
	}

	if (!keep_bitmaps(c))
		return 0;

	/* A fault that holds it may meet a mapping that was made after the swap. */
	if (c->coming) {
		c->coming->dirty_bitmap = __vcalloc(1, bitmap_bytes(c->coming), GFP_KERNEL_ACCOUNT);
		if (!c->coming->dirty_bitmap)
			return -ENOMEM;
	}

	for (i = 0; i < c->nr_new; i++) {
		struct kvm_memory_slot *new = c->new[i];

		new->dirty_bitmap = new_bitmap(c, new);
		if (!new->dirty_bitmap)
			return -ENOMEM;
	}

	return 0;
}

static unsigned long bits_at(const unsigned long *map, unsigned long first, unsigned int nr)
{
	unsigned int shift = first % BITS_PER_LONG;
	unsigned long bits = map[BIT_WORD(first)] >> shift;

	if (shift + nr > BITS_PER_LONG)
		bits |= map[BIT_WORD(first) + 1] << (BITS_PER_LONG - shift);

	return bits & BITMAP_LAST_WORD_MASK(nr);
}

/* In bits, how far to look before others may run. */
#define FOLD_STEP	(32 * BITS_PER_PAGE)

/**
 * dirty_fold() - add the bits of one bitmap to another
 * @to: the bitmap that they are added to; others may set bits in it meanwhile
 * @to_first: where in it
 * @from: the bitmap that they come from; it is final
 * @from_first: where in it
 * @nr: how many bits
 *
 * Context: May sleep.
 */
void dirty_fold(unsigned long *to, unsigned long to_first,
		const unsigned long *from, unsigned long from_first, unsigned long nr)
{
	unsigned long bit = from_first, end = from_first + nr;

	while (bit < end) {
		unsigned long stop = min(bit + FOLD_STEP, end);
		unsigned long to_bit, bits;
		unsigned int n;

		bit = find_next_bit(from, stop, bit);
		if (bit < stop) {
			to_bit = to_first + (bit - from_first);
			n = min_t(unsigned long, end - bit, BITS_PER_LONG - to_bit % BITS_PER_LONG);
			bits = bits_at(from, bit, n) << to_bit % BITS_PER_LONG;
			atomic_long_or(bits, (atomic_long_t *)&to[BIT_WORD(to_bit)]);
			bit += n;
		}
		cond_resched();
	}
}

/* How many bits are the same memory in both. */
static unsigned long nr_common(const unsigned long *to, unsigned long to_first,
			       const unsigned long *from, unsigned long from_first,
			       unsigned long nr)
{
	if (to_first % BITS_PER_BYTE || from_first % BITS_PER_BYTE)
		return 0;

	return min(nr, BITS_PER_BYTE * array_common((void *)to + to_first / BITS_PER_BYTE,
						    (void *)from + from_first / BITS_PER_BYTE,
						    DIV_ROUND_UP(nr, BITS_PER_BYTE)));
}

static void carry_bits(struct kvm_memory_slot *new, const struct kvm_memory_slot *old)
{
	gfn_t to, from, nr = overlap(new, old, &to, &from);
	unsigned long common;

	if (!old->dirty_bitmap || !nr)
		return;

	common = nr_common(new->dirty_bitmap, to, old->dirty_bitmap, from, nr);
	if (common < nr)
		dirty_fold(new->dirty_bitmap, to + common, old->dirty_bitmap, from + common,
			   nr - common);
}

/* KVM hands on the last word as it is; others set bits in it. */
static void clear_behind(struct kvm_memory_slot *slot)
{
	unsigned int used = slot->npages % BITS_PER_LONG;
	atomic_long_t *last = (atomic_long_t *)&slot->dirty_bitmap[BIT_WORD(slot->npages)];

	if (used)
		atomic_long_and(BITMAP_LAST_WORD_MASK(used), last);
}

/* Nobody else changes any of them. */
static void set_bits(unsigned long *map, unsigned long first, unsigned long nr)
{
	unsigned long step;

	for (; nr; nr -= step, first += step) {
		step = min(nr, FOLD_STEP);
		bitmap_set(map, first, step);
		cond_resched();
	}
}

/* Pages that come start as those of a slot that KVM creates. */
static void set_coming(struct layout_change *c)
{
	unsigned long bit = c->coming->base_gfn - c->new[0]->base_gfn;
	unsigned long end = bit + c->coming->npages;
	unsigned long *map = c->new[0]->dirty_bitmap;

	for (; bit < end && bit % BITS_PER_LONG; bit++)
		set_bit(bit, map);
	/* vCPUs set bits of them, too, and nobody clears any. */
	for (; bit + BITS_PER_LONG <= end; bit += BITS_PER_LONG) {
		WRITE_ONCE(map[BIT_WORD(bit)], ~0UL);
		if (!(bit % FOLD_STEP))
			cond_resched();
	}
	for (; bit < end; bit++)
		set_bit(bit, map);
}

static struct kvm_memory_slot *find_id(struct kvm_memory_slot *const *slots, unsigned int nr,
				       u16 id)
{
	unsigned int i;

	for (i = 0; i < nr; i++) {
		if (slots[i]->id == id)
			return slots[i];
	}

	return NULL;
}

static struct kvm_memory_slot *find_gfn(struct kvm_memory_slot *const *slots, unsigned int nr,
					gfn_t gfn)
{
	unsigned int i;

	for (i = 0; i < nr; i++) {
		if (gfn - slots[i]->base_gfn < slots[i]->npages)
			return slots[i];
	}

	return NULL;
}

/**
 * dirty_rename() - give an entry of a dirty ring the name that its page has in the new layout
 * @c: the change
 * @entry: the entry; user space can write to it at any time
 * @is_new: whether it was made when what comes was there already
 *
 * Some entries may have been made through new slots.  They cannot be mistaken: an offset
 * that both an old and a new slot of the same number have is the same page in both.
 *
 * KVM drops all of a run of entries if one of them is beyond the end of its slot, and with
 * that the write protection that the others ask for.  So an entry for no page of the slots
 * concerned, which a VMM must have left from an earlier slot of that number, becomes one
 * for no slot.
 *
 * Return: whether the entry changed.
 */
bool dirty_rename(const struct layout_change *c, struct kvm_dirty_gfn *entry, bool is_new)
{
	u64 offset = READ_ONCE(entry->offset), new_offset = offset;
	u32 name = READ_ONCE(entry->slot);
	const struct kvm_memory_slot *old, *new;
	u16 id = name, new_id = NO_SLOT;

	/* What comes has the number of what left earlier. */
	if (name >> 16 != c->as_id || (id == NO_SLOT && !is_new))
		return false;

	old = find_id(c->old, c->nr_old, id);
	new = find_id(c->new, c->nr_new, id);
	if (!old && !new)
		return false;

	if (old && offset < old->npages) {
		gfn_t gfn = old->base_gfn + offset;

		new = find_gfn(c->new, c->nr_new, gfn);
		new_id = new->id;
		new_offset = gfn - new->base_gfn;
	} else if (new && offset < new->npages) {
		return false;
	}

	if (new_id == id && new_offset == offset)
		return false;

	WRITE_ONCE(entry->slot, c->as_id << 16 | new_id);
	WRITE_ONCE(entry->offset, new_offset);
	return true;
}

/* Can a vCPU have made that entry of its ring through what comes? */
static bool is_new_entry(const struct layout_change *c, unsigned long id, u32 i)
{
	return c->ring_ends && (id >= c->nr_ring_ends || (s32)(i - c->ring_ends[id]) >= 0);
}

static void rename_entries(const struct layout_change *c, struct kvm_dirty_ring *ring,
			   unsigned long id)
{
	u32 end = ring_end(ring);
	u32 i;

	/* Pairs with smp_wmb() in kvm_dirty_ring_push(); the vCPU may be adding more. */
	smp_rmb();

	for (i = ring->reset_index; i != end; i++) {
		dirty_rename(c, &ring->dirty_gfns[i & (ring->size - 1)], is_new_entry(c, id, i));
		cond_resched();
	}
}

/**
 * dirty_carry() - bring what the log says of the old layout into the new one
 * @c: the change
 *
 * Context: slots_lock held, which keeps the log from being read; no reader of the old
 *	set is left.  Sleeps.
 */
void dirty_carry(struct layout_change *c)
{
	struct kvm_vcpu *vcpu;
	unsigned long id;
	unsigned int i;

	lockdep_assert_held(&c->kvm->slots_lock);

	for (i = 0; i < c->nr_old * c->nr_new; i++)
		carry_bits(c->new[i % c->nr_new], c->old[i / c->nr_new]);
	if (c->new[0]->dirty_bitmap)
		clear_behind(c->new[0]);
	if (c->coming && c->new[0]->dirty_bitmap &&
	    kvm_dirty_log_manual_protect_and_init_set(c->kvm))
		set_coming(c);

	/* Where there are as many as before, and none comes or leaves, all keep their names. */
	if (!c->kvm->dirty_ring_size || (c->nr_old == c->nr_new && !c->coming && !c->leaving))
		return;

	kvm_for_each_vcpu(id, vcpu, c->kvm)
		rename_entries(c, &vcpu->dirty_ring, id);
}

/*
 * A vCPU learns what it wrote to, if PML is what noted it, a little later than it has left the
 * guest, when it has begun a new read section.  It has done so when it is seen to serve a
 * request, to be blocked, or to be out of KVM_RUN.
 */
static void await_pml(struct kvm *kvm)
{
	struct kvm_vcpu *vcpu;
	unsigned long id;

	/* It makes a vCPU look whether PML is on, and changes nothing. */
	kvm_call(kvm_make_all_cpus_request)(kvm, KVM_REQ_UPDATE_CPU_DIRTY_LOGGING);

	kvm_for_each_vcpu(id, vcpu, kvm) {
		while (kvm_test_request(KVM_REQ_UPDATE_CPU_DIRTY_LOGGING, vcpu) &&
		       mutex_is_locked(&vcpu->mutex) &&
		       !READ_ONCE(vcpu->stat.generic.blocking))
			schedule_timeout_uninterruptible(1);
	}
}

/**
 * dirty_await_zapped() - wait until the log has all writes to what has been zapped
 * @c: the change; @c->zap is zapped
 *
 * What leaves must not vanish before its writes are in the rings; for bitmaps,
 * dirty_report_leaving() can name pages without knowing.  And to what is read-only now there
 * will be no more writes: who asks for its log then may ask for the last time.
 *
 * Context: slots_lock held, and nothing that a vCPU may wait for.  Sleeps.
 */
void dirty_await_zapped(const struct layout_change *c)
{
	if (!kvm_slot_dirty_track_enabled(c->zap))
		return;

	if (compat_uses_pml(c->kvm) && (c->kvm->dirty_ring_size || !c->leaving))
		await_pml(c->kvm);

	/* Who has let a write happen may still have to note it.  SHRINK waits for them later. */
	if (!c->leaving)
		synchronize_srcu_expedited(&c->kvm->srcu);
}

/**
 * dirty_report_leaving() - give away what is known of writes to what leaves
 * @c: the change; @c->leaving_bits is where the bits go
 *
 * With PML all pages are named, for vCPUs may still know of writes that KVM does not, see
 * dirty_await_zapped().
 *
 * Context: slots_lock held; no reader is left that may hold what left.
 */
void dirty_report_leaving(struct layout_change *c)
{
	if (!c->leaving_bits)
		return;

	if (compat_uses_pml(c->kvm))
		set_bits(c->leaving->dirty_bitmap, 0, c->leaving->npages);
	pinned_buffer_write(c->leaving_bits, c->leaving->dirty_bitmap,
			    kvm_dirty_bitmap_bytes(c->leaving));
}

/**
 * dirty_account() - tell KVM how many slots log writes now: PML is off when none does
 * @c: the change; what is to be told of the end of what leaves is still to come
 *
 * Context: slots_lock held.
 */
void dirty_account(const struct layout_change *c)
{
	if (c->old[0]->flags & KVM_MEM_LOG_DIRTY_PAGES)
		compat_count_logging(c->kvm, (int)change_nr_kept(c) - (int)change_nr_there(c),
				     !!c->leaving, compat_uses_pml(c->kvm));
}

/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A model of how one layout of memslots is replaced by another while vCPUs run:
 * docs/design.rst is the text, README.rst beside this file says how to read both.
 *
 * Two guest frames, 0 and 1, form one huge frame.  Frame f is backed by host
 * page f.  A cut lies between the two, or an end, so this is the smallest VM that
 * has everything: frames that stay and frames that leave, a huge mapping that a
 * boundary goes through, and a neighbour on the other side.
 *
 * What to run is chosen on spin's command line:
 *
 *   -DGROW -DSHRINK -DREMOVE -DSPLIT -DMERGE -DSET_RO -DSET_RW
 *			the operation (one of them); REMOVE is SHRINK to 0
 *   -DSHADOWED		the VM has shadow page tables from the start; without it, a
 *			shadower may make the first one at any moment
 *   -DLOGGED		the slots log dirty pages
 *   -DALIGNED		the frames are not one huge frame, so no end lies inside one
 *   -DFAILS		GROW may fail after it has let the added range in
 *   -DLOCKLESS		who ages pages goes through rmaps without mmu_lock
 *   -DWITH_xxx		who else runs: VCPU2, WRITER, NOTIFIER, ZAPPER, AGING, SHADOW,
 *			HARVEST
 *   -DONLY=P_xxx	check one property alone, P_deadlock none of those below
 *   -Dxxx		leave out or displace a step: the switches of README.rst
 */

/*
 * Properties.  CHECK() puts the property's name into the text of the assertion,
 * where spin prints it.
 */
#define P_no_blink		1
#define P_tail_unreachable	2
#define P_read_only		3
#define P_lands			4
#define P_no_straddle		5
#define P_no_straddle_old	6
#define P_good_pointer		7
#define P_notifier_finds	8
#define P_notifier_balance	9
#define P_shadow_has_slot	10
#define P_tracked_not_writable	11
#define P_counts		12
#define P_no_lost_dirty		13
#define P_no_leak		14
#define P_all_or_nothing	15
#define P_one_head		16
#define P_deadlock		17	/* spin finds that without being asked */

#ifndef ONLY
#define ONLY 0
#endif
#define DISARMED(p) (ONLY != 0 && ONLY != p)

/* "hidden": constants, not part of the state.  True means: do not check. */
hidden byte no_blink		= DISARMED(P_no_blink);
hidden byte tail_unreachable	= DISARMED(P_tail_unreachable);
hidden byte read_only		= DISARMED(P_read_only);
hidden byte lands		= DISARMED(P_lands);
hidden byte no_straddle		= DISARMED(P_no_straddle);
hidden byte no_straddle_old	= DISARMED(P_no_straddle_old);
hidden byte good_pointer	= DISARMED(P_good_pointer);
hidden byte notifier_finds	= DISARMED(P_notifier_finds);
hidden byte notifier_balance	= DISARMED(P_notifier_balance);
hidden byte shadow_has_slot	= DISARMED(P_shadow_has_slot);
hidden byte tracked_not_writable = DISARMED(P_tracked_not_writable);
hidden byte counts		= DISARMED(P_counts);
hidden byte no_lost_dirty	= DISARMED(P_no_lost_dirty);
hidden byte no_leak		= DISARMED(P_no_leak);
hidden byte all_or_nothing	= DISARMED(P_all_or_nothing);
hidden byte one_head		= DISARMED(P_one_head);

#define CHECK(property, cond) assert(property || (cond))

/* ----------------------------------------------------------------- layouts */

/*
 * Slots 0 and 1 are old, 2 and 3 new.  OLD(f) and NEW(f): the slot of frame f in
 * either layout; FIRST(f): in the old one without what GROW lets in; KEPT(f): in the
 * new one without the tail.
 */
#define NONE 4

#if defined(GROW)
#define FIRST(f)	(f -> NONE : 0)
#ifdef SINGLE_SWAP
#define OLD(f)		FIRST(f)
#else
#define OLD(f)		(f -> 1 : 0)
#define COMES			/* slot 1 is the added range, while it is invalid */
#define TWO_OLD
#endif
#define NEW(f)		2
#define SPAN		2
#define OWN0		1	/* new slot 2 gets arrays of its own */
#define OWN1		0	/* so does new slot 3 */
#elif defined(SHRINK)
#define OLD(f)		0
#define NEW(f)		(f -> 3 : 2)
#define KEPT(f)		(f -> NONE : 2)
#define SPAN		0
#define OWN0		1
#define OWN1		0
#elif defined(REMOVE)	/* SHRINK to 0: all is tail */
#define OLD(f)		0
#define NEW(f)		3
#define KEPT(f)		NONE
#define SPAN		0
#define OWN0		0
#define OWN1		0
#elif defined(SPLIT)
#define OLD(f)		0
#define NEW(f)		(f -> 3 : 2)
#define SPAN		0
#define OWN0		1
#define OWN1		1
#elif defined(MERGE)
#define TWO_OLD
#define OLD(f)		(f -> 1 : 0)
#define NEW(f)		2
#define SPAN		2
#define OWN0		1
#define OWN1		0
#else	/* SET_RO, SET_RW */
#define OLD(f)		0
#define NEW(f)		2
#define SPAN		0
#define OWN0		0
#define OWN1		0
#endif

#ifndef FIRST
#define FIRST(f)	OLD(f)
#endif
#ifndef KEPT
#define KEPT(f)		NEW(f)
#endif

/*
 * Does a new slot begin in an old one?  Does an end of a layout's slots lie between
 * the frames, and so inside a huge one?  Not if they are no huge frame (ALIGNED).
 */
#if defined(SPLIT) || defined(SHRINK)
#define CUTS
#endif
#ifdef ALIGNED
#define HUGE_FRAME	0
#else
#define HUGE_FRAME	1
#endif
#define OLD_ENDS_INSIDE	(HUGE_FRAME && OLD(0) != OLD(1))
#define NEW_ENDS_INSIDE	(HUGE_FRAME && NEW(0) != NEW(1))

#if defined(SHRINK) || defined(REMOVE)
#define TAIL
#endif

/* Does frame f have a slot before and after? */
#define STAYS(f)	(FIRST(f) != NONE && KEPT(f) != NONE)
/* Does frame f leave? */
#define LEAVES(f)	(FIRST(f) != NONE && KEPT(f) == NONE)

#if defined(TAIL) && !defined(TAIL_VALID)
#define INVALID(s)	(s == 3)
#elif defined(COMES) && !defined(COMES_VALID)
#define INVALID(s)	(s == 1)
#else
#define INVALID(s)	false
#endif

#if defined(SET_RO)
#define READONLY(s)	(s == 2)
#elif defined(SET_RW)
#define READONLY(s)	(s == 0)
#else
#define READONLY(s)	false
#endif

#ifdef LOGGED
#define LOGS		true
#else
#define LOGS		false
#endif

#if defined(TAIL_NO_BITMAP)
#define HAS_BITMAP(s)	(LOGS && s != 3)
#elif defined(COMES)
#define HAS_BITMAP(s)	(LOGS && s != 1)
#else
#define HAS_BITMAP(s)	LOGS
#endif

/* ------------------------------------------------------------------- state */

/* The two slot sets: guest-frame tree and host-address tree agree, so one map. */
typedef set_t {
	byte slot[2];
	byte gen;	/* 2 * generation + 1 while an update is in progress */
};
set_t set[2];
bit current;

/* SRCU: a reader counts in the epoch in which it starts. */
bit epoch;
byte readers[2];

/*
 * Locks.  mmu_lock is missing: what KVM does under it is one atomic step here,
 * and where KVM yields it half-way there are two steps.  The same goes for
 * mn_invalidate_lock.
 */
bool slots_lock, slots_arch_lock;
byte mn_active;		/* mn_active_invalidate_count */
byte in_progress;	/* mmu_invalidate_in_progress */
byte seq;		/* mmu_invalidate_seq */
bool zapping;		/* kvm_zap_gfn_range() is one of those in progress */

/*
 * A slot's pointers to its arrays.  Arrays have the number of the slot that they
 * were made for.
 */
#define STANDIN	4
#define NUL	5
byte lpage[4], rmap[4], track[4];

/* Which arrays are allocated, as masks; and are the stand-ins? */
byte lpage_live, rmap_live, track_live;
bool standin_live;
byte slots_freed;
bit sharing;		/* old and new slots share rmaps and write-tracking counts */
byte retired;		/* the old slots that had some of their own, as a mask */

/* Contents: a count against a huge mapping; which frames are write-tracked. */
byte lpage_count[4];
byte tracked[4];

#define IN(mask, i)	((mask >> i) & 1)
#define LIVE(mask, i)	(i < 4 -> IN(mask, i) : (i == STANDIN && standin_live))

/* The page table: what vCPUs can reach.  One entry for a frame. */
bool mapped[2], writable[2], mmu_writable[2];
bool huge;		/* one huge entry for both frames */
#define DIRECT 6
byte rmapped[2];	/* which rmap array lists the entry, or DIRECT: none does */
#define NO_MMIO 7
bool unflushed;		/* a vCPU's TLB has page 1 though the page table has not */
byte mmio;		/* frame 1's MMIO entry: its generation, or NO_MMIO */

/* The host: are the two pages a huge page?  Has it taken page 1 back? */
bool host_huge, host_both, taken;
/* Is host page f among those that the notifier is about? */
#define NOTIFIED(f)	(f == 1 || host_both)

/* Shadow pages */
bool shadow_root;	/* shadow_root_allocated */
bool shadow;		/* there is a shadow page, ... */
bit shadow_gfn;		/* ... of this frame */

/* Dirty bitmaps of the slots; and what they are to tell */
byte bitmap[4];
bool wrote[2];		/* written since last reported, by the guest or by KVM */
byte reported;		/* SHRINK's dirty_bitmap */

/* For the properties */
bool both;		/* readers may hold slots of either layout */
bool done;		/* the operation has returned, successfully */

/* ------------------------------------------------------------------ helpers */

inline srcu_read_lock(e)
{
	e = epoch;
	readers[e]++
}

/*
 * The last step of a read section ends it.  A reader that stayed on would do nothing but
 * keep the operation waiting.
 */
inline srcu_read_unlock(e)
{
	readers[e]--;
	e = 0
}

/* What must be true whenever mappings, slots or arrays have changed. */
inline check_frame(f)
{
	if
	:: mapped[f] ->
		/* A notifier comes by the active set, and to an rmap by its slot. */
		CHECK(notifier_finds, set[current].slot[f] != NONE);
		if
		:: rmapped[f] != DIRECT && set[current].slot[f] != NONE ->
			CHECK(notifier_finds, rmap[set[current].slot[f]] == rmapped[f])
		:: else
		fi;
		CHECK(tracked_not_writable,
		      !(shadow && shadow_gfn == f && (writable[f] || mmu_writable[f])));
		CHECK(tail_unreachable, !(done && LEAVES(f)));
#ifdef SET_RO
		CHECK(read_only, !(done && writable[f]));
#endif
	:: else
	fi
}

inline check_mappings()
{
	check_frame(0);
	check_frame(1);
	CHECK(no_straddle, !huge || set[current].slot[0] == set[current].slot[1]);
	CHECK(no_straddle_old, !huge || !both ||
	      (OLD(0) == OLD(1) && NEW(0) == NEW(1)))
}

inline clear_entry(f)
{
	mapped[f] = false;
	writable[f] = false;
	mmu_writable[f] = false;
	rmapped[f] = DIRECT
}

/* Zap what maps frame f. */
inline zap(f)
{
	if
	:: huge -> clear_entry(0); clear_entry(1); huge = false
	:: else -> clear_entry(f)
	fi
}

inline mark_dirty(s, f)
{
	CHECK(good_pointer, !IN(slots_freed, s));
	if
	:: HAS_BITMAP(s) -> bitmap[s] = bitmap[s] | (1 << f)
	:: else
	fi
}

/* A vCPU can write as soon as the mapping allows it. */
inline note_write(f)
{
	if
	:: LOGS -> wrote[f] = true
	:: else
	fi
}

/* Shadow page gone: by the slot that the active set has for its frame. */
inline unshadow(a)
{
	a = set[current].slot[shadow_gfn];
	CHECK(shadow_has_slot, a != NONE);
	if
	:: a != NONE ->
		CHECK(good_pointer, track[a] < 4 && LIVE(track_live, track[a]));
		CHECK(good_pointer, LIVE(lpage_live, lpage[a]));
		if
		:: track[a] < 4 ->
			CHECK(counts, IN(tracked[track[a]], shadow_gfn));
			tracked[track[a]] = tracked[track[a]] & ~(1 << shadow_gfn)
		:: else
		fi;
		CHECK(counts, lpage_count[lpage[a]] > 0);
		if
		:: lpage_count[lpage[a]] > 0 -> lpage_count[lpage[a]]--
		:: else
		fi
	:: else
	fi;
	shadow = false;
	shadow_gfn = 0;
	a = 0
}

/* --------------------------------------------------------------- operation */

/* Arrays of its own for a slot, as KVM makes them for one that is created. */
inline alloc_own(s, ends_inside)
{
	lpage_live = lpage_live | (1 << s);
	lpage_count[s] = ends_inside;
	if
	:: shadow_root ->
		rmap_live = rmap_live | (1 << s);
		track_live = track_live | (1 << s)
	:: else
	fi
}

/* The slot uses them. */
inline use_own(s)
{
	lpage[s] = s;
	rmap[s] = (shadow_root -> s : NUL);
	track[s] = (shadow_root -> s : NUL)
}

/* A slot of the old layout. */
inline create(s)
{
	alloc_own(s, OLD_ENDS_INSIDE);
	use_own(s)
}

/* ->prepare: the new slots' own arrays, seen by nobody. */
inline prepare()
{
	if
	:: OWN0 -> alloc_own(2, NEW_ENDS_INSIDE)
	:: else
	fi;
	if
	:: OWN1 -> alloc_own(3, NEW_ENDS_INSIDE)
	:: else
	fi
}

inline free_array(mask, i)
{
	CHECK(good_pointer, IN(mask, i));
	mask = mask & ~(1 << i)
}

/* The opposite, for a layout that will not come to be. */
inline unprepare()
{
	free_array(lpage_live, 2);
	lpage_count[2] = 0;
	if
	:: IN(rmap_live, 2) -> free_array(rmap_live, 2); free_array(track_live, 2)
	:: else
	fi
}

inline lend_standins(s)
{
	standin_live = true;
	if
	:: rmap[s] == NUL -> rmap[s] = STANDIN
	:: else
	fi;
	if
	:: track[s] == NUL -> track[s] = STANDIN
	:: else
	fi
}

/* Rmap heads are moved, entry by entry, from one array to another. */
inline move_rmap(f, from, to)
{
	if
	:: mapped[f] && rmapped[f] == from -> rmapped[f] = to
	:: else
	fi
}

/* An old slot's counts and rmaps go into a new span's arrays. */
inline carry_into_span(o)
{
#ifndef NO_CARRY
	/* One of its counts is for the end that it has in the huge frame. */
	lpage_count[SPAN] = lpage_count[SPAN] + lpage_count[o] - OLD_ENDS_INSIDE;
	tracked[SPAN] = tracked[SPAN] | tracked[o];
#endif
	move_rmap(0, o, SPAN);
	move_rmap(1, o, SPAN)
}

/* A slot uses the span's arrays. */
inline use_span(s)
{
	lpage[s] = SPAN;
	rmap[s] = (sharing -> SPAN : NUL);
	track[s] = (sharing -> SPAN : NUL)
}

#if defined(GROW) || defined(MERGE)
#define HOLD_OLD_ENDS
#endif

inline share()
{
#ifndef NO_HOLD
	/* Frames that one layout cuts and the span does not: one reason more. */
	lpage_count[SPAN] = lpage_count[SPAN] + (OLD_ENDS_INSIDE || NEW_ENDS_INSIDE);
#endif
#if defined(CUTS) && !defined(NO_ZAP_CUT) && !defined(ALIGNED)
	zap(0);
	zap(1);
#endif
#ifdef NO_SHARE
	use_own(2);
	use_own(3);
#else
	/*
	 * The new slots got rmaps if there was a shadow root.  A first one that ran out of
	 * memory may have left some to old slots; these are not shared.
	 */
	sharing = IN(rmap_live, SPAN) && (!OWN0 || IN(rmap_live, 2));
	retired = rmap_live & 3;
#ifdef HOLD_OLD_ENDS
	carry_into_span(0);
#ifdef TWO_OLD
	carry_into_span(1);
#endif
#endif
#ifndef REMOVE
	use_span(2);
#endif
#if defined(CUTS) || defined(TAIL)
	use_span(3);
#endif
	use_span(0);
#ifdef TWO_OLD
	use_span(1);
#endif
#endif
	both = true;
	check_mappings()
}

/* Change the inactive set. */
inline stage(f0, f1)
{
	set[1 - current].slot[0] = f0;
	set[1 - current].slot[1] = f1
}

/* No notifier is between start and end, and none starts during this step. */
#ifdef NO_NOTIFIER_WAIT
#define NO_NOTIFIER	true
#else
#define NO_NOTIFIER	(mn_active == 0)
#endif

/*
 * Nobody is half-way through an rmap, if some are moved: in share where the span is
 * new, in settle where it is old and the new slots leave it.
 */
#ifdef NO_QUIET
#define QUIET(moves)	true
#else
#define QUIET(moves)	(in_progress == 0 || !(moves))
#endif
#ifdef HOLD_OLD_ENDS
#define MOVES_IN_SHARE	IN(rmap_live, SPAN)
#else
#define MOVES_IN_SHARE	false
#endif
#ifdef CUTS
#define MOVES_IN_SETTLE	sharing
#else
#define MOVES_IN_SETTLE	false
#endif

/*
 * Nobody holds the bit of a head that is taken away, to be moved, or for what it leads to
 * is zapped.
 */
#ifdef LOCKLESS
byte locked_head;	/* that of this frame, from 1 on; by aging() */
#define UNLOCKED	(locked_head == 0)
#else
#define UNLOCKED	true
#endif
#if defined(NO_HEAD_LOCK) && defined(HOLD_OLD_ENDS)
#define UNLOCKED_TO_SHARE	true
#else
#define UNLOCKED_TO_SHARE	UNLOCKED
#endif
#ifdef NO_HEAD_LOCK
#define UNLOCKED_TO_SETTLE	true
#else
#define UNLOCKED_TO_SETTLE	UNLOCKED
#endif

/* Nobody is half-way through the set that was active, without being its reader. */
#ifdef NO_SECOND_LOOK
#define LEFT_ALONE	true
#else
#define LEFT_ALONE	(in_progress == 0 || !shadow_root)
#endif

#ifdef GEN_EARLY
#define GEN_AT_SWAP	set[current].gen = (set[current].gen & 254) + 2
#define GEN_AFTER_WAIT	skip
#else
#define GEN_AT_SWAP	skip
#ifdef NO_GEN
#define GEN_AFTER_WAIT	set[current].gen = set[current].gen & 254
#else
#define GEN_AFTER_WAIT	set[current].gen = (set[current].gen & 254) + 2
#endif
#endif

inline swap()
{
	set[1 - current].gen = set[current].gen | 1;
	current = 1 - current;
	GEN_AT_SWAP;
	check_mappings()
}

/* The end of the wait; or, for mutants, what is left of it. */
inline waited()
{
	slots_arch_lock = false;
	GEN_AFTER_WAIT;
	both = false;
	e = 0
}

/*
 * To start the wait is part of the step that swaps the sets: who began to read between
 * the two has the new set, and nothing to be waited for.
 */
inline start_wait()
{
	e = epoch;
	epoch = 1 - epoch
}

inline wait_for_readers()
{
	atomic { readers[e] == 0 -> waited() }
}

#ifdef KEEP_ARCH_LOCK
#define MAY_RELEASE_ARCH_LOCK	false
#else
#define MAY_RELEASE_ARCH_LOCK	true
#endif

/*
 * One or two slots have left the active set.  If their readers stay for long, who waits for
 * slots_arch_lock gets it; the slots need stand-ins then.
 */
inline lend_and_wait(lends, s, t)
{
	if
	:: atomic {
		MAY_RELEASE_ARCH_LOCK ->
		if
		:: lends -> lend_standins(s); lend_standins(t)
		:: else
		fi;
		slots_arch_lock = false
	   }
	:: atomic { readers[e] == 0 }
	fi;
	wait_for_readers()
}

#ifdef NO_STANDINS
#define LENDS		false
#else
#define LENDS		true
#endif
#ifdef NO_TAIL_STANDINS
#define LENDS_TAIL	false
#else
#define LENDS_TAIL	true
#endif
#ifdef NO_COMES_STANDINS
#define LENDS_COMES	false
#else
#define LENDS_COMES	true
#endif

/* Give each new slot of an old span's arrays of its own. */
inline move_to_own(s, f)
{
	/* A frame that a cut goes through keeps all of its count on both sides. */
#ifndef NO_CARRY
	lpage_count[s] = lpage_count[0];
	if
	:: track[s] == 0 -> tracked[s] = tracked[0] & (1 << f)
	:: else
	fi;
#endif
	lpage[s] = s;
	/* What a first shadow root gave it is its own already. */
	if
	:: track[s] == 0 -> track[s] = s
	:: else
	fi;
	if
	:: rmap[s] == 0 -> move_rmap(f, 0, s); rmap[s] = s
	:: else
	fi
}

/* The mutant publishes what it read before a first shadow root came between. */
inline move_to_own_late(s, r, t)
{
	lpage_count[s] = lpage_count[0];
	lpage[s] = s;
	rmap[s] = r;
	track[s] = t
}

inline settle()
{
#if defined(HOLD_OLD_ENDS) && !defined(HOLD_END_EARLY) && !defined(HOLD_END_AT_SWAP) && !defined(NO_HOLD)
	lpage_count[SPAN] = lpage_count[SPAN] - OLD_ENDS_INSIDE;
#endif
#if defined(CUTS) && !defined(NO_SHARE)
	move_to_own(2, 0);
#ifdef SPLIT
	move_to_own(3, 1);
#endif
#endif
	check_mappings()
}

/* kvm_arch_free_memslot() of an old slot, with the arrays that it had at first. */
inline free_old_arrays(o)
{
	free_array(lpage_live, o);
	if
	:: IN(retired, o) -> free_array(rmap_live, o); free_array(track_live, o)
	:: else
	fi
}

inline free_old()
{
#if !defined(SET_RO) && !defined(SET_RW)	/* there the new slot took them over */
	free_old_arrays(0);
#ifdef TWO_OLD
	free_old_arrays(1);
#endif
#endif
	skip
}

/* A slot that vanishes: what was lent or shared is not its own.  What KVM gave it is. */
inline free_vanished(s)
{
#ifdef RETIRE_BLINDLY
	track[s] = NUL;
#endif
	if
	:: lpage[s] == s -> free_array(lpage_live, s)
	:: else
	fi;
	if
	:: rmap[s] == s -> free_array(rmap_live, s)
	:: else
	fi;
	if
	:: track[s] == s -> free_array(track_live, s)
	:: else
	fi;
	slots_freed = slots_freed | (1 << s)
}

inline release()
{
#ifndef FREE_EARLY
	free_old();
#endif
	slots_freed = slots_freed | 1;
#ifdef TWO_OLD
	slots_freed = slots_freed | 2;
#endif
#ifdef TAIL
	free_vanished(3);
#endif
	standin_live = false;
	sharing = 0;
	retired = 0
}

/* Each array that is left is some slot's, and each slot's is left. */
#define USES(f, ptr, i)	(set[current].slot[f] != NONE && ptr[set[current].slot[f]] == i)
#define USED(ptr, i)	(USES(0, ptr, i) || USES(1, ptr, i))

#define CHECK_LEAK(mask, ptr, i)	CHECK(no_leak, IN(mask, i) == USED(ptr, i))

inline check_leak(i)
{
	CHECK_LEAK(lpage_live, lpage, i);
	CHECK_LEAK(rmap_live, rmap, i);
	CHECK_LEAK(track_live, track, i)
}

/* The layout is the old one again, for a GROW that has failed. */
inline check_nothing_happened()
{
	CHECK(all_or_nothing, set[0].slot[0] == FIRST(0) && set[0].slot[1] == FIRST(1));
	CHECK(all_or_nothing, set[1].slot[0] == FIRST(0) && set[1].slot[1] == FIRST(1));
	CHECK(all_or_nothing, slots_freed == 2 && !standin_live);
	CHECK(all_or_nothing, lpage[0] == 0 && rmap[0] != STANDIN && track[0] != STANDIN);
	CHECK(all_or_nothing, lpage_count[0] == OLD_ENDS_INSIDE + shadow)
}

inline fold_frame(f)
{
	if
	:: OLD(f) != NONE -> bitmap[NEW(f)] = bitmap[NEW(f)] | (bitmap[OLD(f)] & (1 << f))
	:: else
	fi
}

inline zap_what_leaves()
{
#ifdef WRITE_PROTECT
	atomic { writable[0] = false; writable[1] = false };
#else
	/* It may yield mmu_lock between the two. */
#ifndef SHRINK
	atomic { zap(0) };
#endif
	atomic { zap(1); check_mappings() };
#endif
#if defined(TAIL) && !defined(NO_ZAP_SHADOW)
	/* kvm_arch_flush_shadow_memslot(), if there are shadow pages */
	atomic {
		if
		:: shadow && LEAVES(shadow_gfn) -> unshadow(a)
		:: else
		fi
	};
#endif
	skip
}

#if defined(TAIL) || defined(SET_RO)
#define ZAPS
#endif

#ifdef NO_ARCH_LOCK
#define TAKE_ARCH_LOCK	slots_arch_lock = false
#else
#define TAKE_ARCH_LOCK	!slots_arch_lock -> slots_arch_lock = true
#endif

proctype operation()
{
	bit e;
	byte a;
	byte r2, t2, r3, t3;	/* used by mutants only, as is the next */
	byte word;

	atomic { !slots_lock -> slots_lock = true };

	/* admit: the added range, as an invalid slot; the other set never gets it */
#ifdef COMES
	atomic {
		TAKE_ARCH_LOCK;
		create(1);
#ifdef PREPARE_EARLY
		prepare()
#endif
	};
#ifdef NO_ADMIT_WAIT
	atomic { NO_NOTIFIER -> stage(0, 1); swap(); waited() };
#else
	/* None leaves. */
	atomic { NO_NOTIFIER -> stage(0, 1); swap(); start_wait(); slots_arch_lock = false };
	wait_for_readers();
#endif
	LEFT_ALONE;
#endif

	/* prepare */
	atomic {
		TAKE_ARCH_LOCK;
#ifndef PREPARE_EARLY
		prepare()
#endif
	};

	/* share */
	atomic {
		if
		:: QUIET(MOVES_IN_SHARE) && UNLOCKED_TO_SHARE -> share()
#ifdef FAILS
		/* no memory, a page-write tracker, or a fatal signal */
		:: unprepare(); goto dismiss
#endif
		fi
	};
#if defined(ZAPS) && defined(ZAP_BEFORE_SWAP)
	zap_what_leaves();
#endif
#ifdef HOLD_END_EARLY
	atomic { lpage_count[SPAN]-- };
#endif

	/* stage, swap: one step, for nobody begins to read the inactive set */
	atomic {
		NO_NOTIFIER ->
#ifdef DROP_TAIL_EARLY
		stage(KEPT(0), KEPT(1));
#else
		stage(NEW(0), NEW(1));
#endif
		swap();
#ifndef NO_WAIT
		start_wait()
#endif
	};
#ifdef HOLD_END_AT_SWAP
	atomic { lpage_count[SPAN]-- };
#endif
#if defined(ZAPS) && defined(ZAP_BEFORE_WAIT)
	zap_what_leaves();
#endif
#ifdef MIRROR_EARLY
	atomic { stage(NONE, NONE) };
	atomic { stage(KEPT(0), KEPT(1)) };
#endif
#ifdef FOLD_EARLY
	atomic { fold_frame(0); fold_frame(1) };
#endif
#ifdef FREE_EARLY
	atomic { free_old() };
#endif

	/* wait */
#ifdef NO_WAIT
	atomic { waited() };
#else
#ifdef TWO_OLD
	lend_and_wait(LENDS, 0, 1);
#else
	lend_and_wait(LENDS, 0, 0);
#endif
#endif

	/* look again, mirror: nobody reads this set any more, so its two steps are one */
	atomic { LEFT_ALONE -> stage(KEPT(0), KEPT(1)) };

	/* fold */
#if defined(LOGGED) && !defined(FOLD_EARLY) && !defined(NO_FOLD)
#ifdef FOLD_TORN
	word = bitmap[NEW(0)];
	bitmap[NEW(0)] = word | bitmap[0];
	word = 0;
#else
	atomic { fold_frame(0); fold_frame(1) };
#endif
#endif

	/* zap */
#if defined(ZAPS) && !defined(NO_ZAP) && !defined(ZAP_BEFORE_SWAP) && !defined(ZAP_BEFORE_WAIT)
	zap_what_leaves();
#endif
#if defined(TAIL) && defined(REPORT_EARLY)
	atomic { reported = bitmap[3] };
#endif

	/* settle */
#ifdef SETTLE_UNLOCKED
	atomic { r2 = rmap[2]; t2 = track[2]; r3 = rmap[3]; t3 = track[3] };
	atomic {
		move_to_own_late(2, r2, t2);
#ifdef SPLIT
		move_to_own_late(3, r3, t3);
#endif
		r2 = 0; t2 = 0; r3 = 0; t3 = 0
	};
#else
	atomic {
		!slots_arch_lock -> slots_arch_lock = true;
		/* It may wait here, with the lock. */
		QUIET(MOVES_IN_SETTLE) && UNLOCKED_TO_SETTLE ->
		settle();
		slots_arch_lock = false
	};
#endif
#if defined(SPLIT) && !defined(NO_SECOND_WAIT)
	/* A fault may have the pointer to the counts that its slot moved away from. */
	if
	:: atomic { sharing -> start_wait() };
	   atomic { readers[e] == 0 -> e = 0 }
	:: else
	fi;
#endif

	/* vanish */
#ifdef TAIL
	atomic { !slots_arch_lock -> slots_arch_lock = true };
	/* The inactive set never had it. */
#ifdef NO_VANISH_WAIT
	atomic { NO_NOTIFIER -> swap(); waited() };
#else
	atomic { NO_NOTIFIER -> swap(); start_wait() };
	lend_and_wait(LENDS_TAIL, 3, 3);
#endif
	atomic { LEFT_ALONE -> stage(KEPT(0), KEPT(1)) };
#ifndef REPORT_EARLY
	atomic { reported = bitmap[3] };
#endif
#endif

	/* release, return */
	atomic {
		release();
		done = true;
		slots_lock = false;
		slots_arch_lock = false;
		check_leak(0); check_leak(1); check_leak(2); check_leak(3);
		check_mappings()
	};
#ifdef FAILS
	goto out;

dismiss:
	/* As a tail vanishes: what was let in is still in one set alone. */
#ifndef LEFT_BEHIND
#ifdef NO_VANISH_WAIT
	atomic { NO_NOTIFIER -> swap(); waited() };
#else
	atomic { NO_NOTIFIER -> swap(); start_wait() };
	lend_and_wait(LENDS_COMES, 1, 1);
#endif
	atomic { LEFT_ALONE -> stage(FIRST(0), FIRST(1)) };
	atomic { free_vanished(1) };
#endif
	atomic {
		standin_live = false;
		slots_lock = false;
		slots_arch_lock = false;
		check_nothing_happened();
		check_leak(0); check_leak(1); check_leak(2); check_leak(3);
		check_mappings()
	};
out:
#endif
	skip
}

/*
 * All but the operation and the notifier go on for ever.  That would hide a
 * deadlock that leaves one of them running: where one is looked for, they may stop.
 */
#ifdef QUITS
#define QUIT	:: break
#else
#define QUIT
#endif

/* -------------------------------------------------------------------- vCPU */

/* Does the slot that a fault holds say that the frame is write-tracked? */
#ifdef STANDIN_UNTRACKED
#define STANDIN_SAYS	false
#else
#define STANDIN_SAYS	true
#endif
#define TRACKED(t, f)	(t == STANDIN -> STANDIN_SAYS : (t < 4 && IN(tracked[t], f)))

/* Is page f between the start and the end of an invalidation, or has one been since? */
#define RETRY(f, since)	((in_progress > 0 && (NOTIFIED(f) || zapping)) || seq != since)

/* Map frame f through slot s, under mmu_lock. */
inline install(s, f, sh, rm, w, h)
{
	CHECK(good_pointer, !IN(slots_freed, s));
	CHECK(good_pointer, LIVE(lpage_live, lpage[s]));
	if
	:: shadow_root -> CHECK(good_pointer, LIVE(track_live, track[s]))
	:: else
	fi;
	if
	:: sh -> CHECK(good_pointer, rmap[s] < 4 && LIVE(rmap_live, rmap[s])); rm = rmap[s]
	:: else -> rm = DIRECT
	fi;

	w = !READONLY(s) && !(shadow_root && TRACKED(track[s], f));
	h = HUGE_FRAME && host_huge && !taken && !LOGS && lpage_count[lpage[s]] == 0;

	if
	:: mapped[f] && ((rmapped[f] == DIRECT) == sh) -> skip	/* see README.rst */
	:: else ->
		if
		:: h ->
			zap(0);
			zap(1);
			huge = true;
			mapped[0] = true; writable[0] = w; mmu_writable[0] = w; rmapped[0] = rm;
			mapped[1] = true; writable[1] = w; mmu_writable[1] = w; rmapped[1] = rm;
			mmio = NO_MMIO
		:: else ->
			/* The TDP MMU splits a huge mapping, shadow paging drops it. */
			if
			:: huge && sh -> zap(f)
			:: huge && !sh -> huge = false
			:: else
			fi;
			mapped[f] = true; writable[f] = w; mmu_writable[f] = w; rmapped[f] = rm;
			if
			:: f == 1 -> mmio = NO_MMIO
			:: else
			fi
		fi;
		if
		:: w -> note_write(f); mark_dirty(s, f)
		:: else
		fi
	fi;
	check_mappings();
	w = false; h = false; rm = 0
}

inline leave()
{
	srcu_read_unlock(e);
	f = 0; sh = false; s = 0; t = 0; since = 0; old_page = false; rm = 0
}

proctype vcpu()
{
	bit e;
	bit f;		/* the frame */
	bool sh;	/* through a shadow page table? */
	byte s;		/* the slot */
	byte t;		/* its write-tracking counts */
	byte since;	/* mmu_invalidate_seq */
	bool old_page;	/* the host page was looked up before it was taken back */
	byte rm;	/* what it installs: in which rmaps, */
	bool w, h;	/* writable?  huge? */

end:
	do
	QUIT
	:: atomic {
		srcu_read_lock(e);
		if
		:: f = 0
		:: f = 1
		fi;
		if
		:: shadow_root -> sh = true
		:: sh = false
		fi;
		/* An MMIO entry of this generation: emulate, look nothing up. */
		if
		:: f == 1 && mmio != NO_MMIO && set[current].gen == 2 * mmio ->
			CHECK(no_blink, !STAYS(f));
			CHECK(lands, !(done && KEPT(f) != NONE));
			leave();
			goto end
		:: else
		fi;
		s = set[current].slot[f];
		CHECK(no_blink, !STAYS(f) || (s != NONE && !INVALID(s)));
		CHECK(lands, !(done && KEPT(f) != NONE) || (s != NONE && !INVALID(s)));
		CHECK(lands, !done || s == NONE || READONLY(s) == READONLY(2))
	   };
	   if
	   :: s == NONE ->
		/* It carries the generation of now, not of the lookup. */
		atomic {
			UNLOCKED ->
			if
			:: f == 1 ->
				if
				:: mapped[f] && rmapped[f] == DIRECT ->
					/* The TDP MMU overwrites, without a flush. */
					clear_entry(f);
					huge = false;
					unflushed = true
				:: else -> zap(f)
				fi;
				mmio = set[current].gen >> 1
			:: else
			fi;
			leave();
			goto end
		}
	   :: else
	   fi;

	   /*
	    * Outside mmu_lock: is the write tracked?  KVM asks if there was a mapping
	    * when the vCPU left the guest, which is some time ago.
	    */
	   if
	   :: shadow_root ->
		atomic {
			CHECK(good_pointer, !IN(slots_freed, s));
			t = track[s];
			CHECK(good_pointer, t != NUL)
		};
		atomic {
			CHECK(good_pointer, LIVE(track_live, t));
			if
			:: TRACKED(t, f) -> leave(); goto end	/* it is emulated */
			:: else -> t = 0
			fi
		}
	   :: skip
	   fi;

	   atomic {
		if
		:: mapped[f] && rmapped[f] == DIRECT && !sh && !writable[f] &&
		   mmu_writable[f] && !(LOGS && huge) ->
			/* The fast page fault: not a look at the slot's flags. */
			if
			:: huge -> writable[0] = true; writable[1] = true
			:: else -> writable[f] = true
			fi;
			note_write(f);
			check_mappings()
		:: else ->
			CHECK(good_pointer, !IN(slots_freed, s));
			if
			:: INVALID(s) -> leave(); goto end
			:: else
			fi;
			since = seq;
			old_page = !taken;
			goto slow
		fi
	   };
	   atomic { mark_dirty(s, f); leave(); goto end };

slow:
	   /* Here it sleeps for as long as it takes to get the page. */
	   atomic {
		UNLOCKED ->
		if
		:: RETRY(f, since) -> skip
		:: else ->
			/* A page that the host has taken back must not be mapped. */
			CHECK(notifier_finds, !(old_page && taken && NOTIFIED(f)));
			install(s, f, sh, rm, w, h)
		fi;
		leave()
	   }
	od
}

/* ------------------------------------------------------------------ others */

/*
 * KVM writes to the guest for a vCPU or for itself, through the host address of a
 * slot, looked up now or remembered since (gfn_to_hva_cache).
 */
proctype writer()
{
	bit e;
	bit n;			/* the set that it found active */
	bit f;
	byte s = NONE;		/* remembered: the slot, ... */
	byte gen = 255;		/* ... and of what generation that was */

	if
	:: f = 0
	:: f = 1
	fi;
end:
	do
	QUIT
	:: atomic { srcu_read_lock(e); n = current };
	   atomic {
		if
		:: gen != set[n].gen ->
			gen = set[n].gen;
			s = set[n].slot[f];
			CHECK(no_blink, !STAYS(f) || (s != NONE && !INVALID(s)))
		:: else
		fi;
		CHECK(lands, !done || KEPT(f) == NONE || (s != NONE && READONLY(s) == READONLY(2)));
		if
		:: s == NONE || INVALID(s) || READONLY(s) ->
			srcu_read_unlock(e);
			n = 0;
			goto end
		:: else
		fi
	   };
	   atomic {
		CHECK(tail_unreachable, !(done && LEAVES(f)));
#ifdef SET_RO
		CHECK(read_only, !done);
#endif
		note_write(f)
	   };
	   atomic { mark_dirty(s, f); srcu_read_unlock(e); n = 0 }
	od
}

/* What a walk over the rmaps of slot s meets. */
inline walk_rmap(s, r)
{
	if
	:: shadow_root ->
		CHECK(good_pointer, !IN(slots_freed, s));
		r = rmap[s];
		CHECK(good_pointer, LIVE(rmap_live, r))
	:: else -> r = NUL
	fi
}

/* Zap frame f as somebody does who found the rmaps r. */
inline zap_found(f, r)
{
	if
	:: mapped[f] && (rmapped[f] == DIRECT || rmapped[f] == r) -> zap(f)
	:: else
	fi
}

/*
 * The host takes page 1 back, or both if they are a huge page: munmap, migration,
 * swap.
 */
proctype notifier()
{
	bit e;
	bit n;
	bool found;
	byte s0, s1, r0, r1;

	mn_active++;

	atomic {
		srcu_read_lock(e);
		n = current;
		s0 = (host_both -> set[n].slot[0] : NONE);
		s1 = set[n].slot[1];
		found = s0 != NONE || s1 != NONE
	};
	if
	:: found ->
		atomic {
			in_progress++;
			if
			:: s0 != NONE -> walk_rmap(s0, r0); zap_found(0, r0)
			:: else
			fi;
			if
			:: s1 != NONE -> walk_rmap(s1, r1)
			:: else -> r1 = NUL
			fi
		};
		/* The walk yields mmu_lock, and goes on in the array that it was in. */
		atomic {
			if
			:: s1 != NONE ->
				if
				:: r1 != NUL -> CHECK(good_pointer, LIVE(rmap_live, r1))
				:: else
				fi;
				zap_found(1, r1)
			:: else
			fi;
			check_mappings()
		}
	:: else
	fi;
	atomic {
		srcu_read_unlock(e);
		r0 = 0; r1 = 0; s0 = 0; s1 = 0; found = false; n = 0
	};

	atomic {
		CHECK(notifier_finds, !mapped[1] && !(host_both && mapped[0]));
		CHECK(notifier_finds, !unflushed);
		taken = true
	};

	atomic {
		srcu_read_lock(e);
		n = current;
		found = set[n].slot[1] != NONE || (host_both && set[n].slot[0] != NONE)
	};
	atomic {
		if
		:: found ->
			seq++;
			CHECK(notifier_balance, in_progress > 0);
			if
			:: in_progress > 0 -> in_progress--
			:: else
			fi
		:: else
		fi;
		srcu_read_unlock(e)
	};
	atomic {
		CHECK(notifier_balance, in_progress == zapping);
		mn_active--;
		found = false; n = 0
	}
}

/*
 * kvm_zap_gfn_range(), for an APIC or a guest's memory types: it is in no read section,
 * and holds mmu_lock, which it yields between the frames.
 */
proctype zapper()
{
	bit n;
	bool walks;		/* over rmaps: were there any when it began? */
	byte s0, s1, r;

	atomic {
		in_progress++;
		zapping = true;
		n = current;
		s0 = set[n].slot[0];
		s1 = set[n].slot[1];
		walks = shadow_root;
		r = NUL;
		if
		:: walks && s0 != NONE -> walk_rmap(s0, r)
		:: else
		fi;
		zap_found(0, r)
	};
	/* It goes on in the same set, and, if that is one slot, in the same array. */
	atomic {
		if
		:: walks ->
			CHECK(good_pointer, set[n].slot[0] == s0 && set[n].slot[1] == s1);
			CHECK(good_pointer, s0 == NONE || !IN(slots_freed, s0));
			if
			:: s1 == s0 && r != NUL -> CHECK(good_pointer, LIVE(rmap_live, r))
			:: s1 != s0 && s1 != NONE -> walk_rmap(s1, r)
			:: else -> r = NUL
			fi
		:: else
		fi;
		zap_found(1, r);
		CHECK(notifier_finds, !mapped[0] && !mapped[1] && !unflushed);
		seq++;
		in_progress--;
		zapping = false;
		check_mappings();
		n = 0; walks = false; s0 = 0; s1 = 0; r = 0
	}
}

/* The host asks whether a page was accessed.  This has no start and end. */
proctype aging()
{
	bit e, f;
	byte s, r;

end:
	do
	QUIT
	:: atomic {
		srcu_read_lock(e);
		if
		:: f = 0
		:: f = 1
		fi;
		s = set[current].slot[f]
	   };
	   atomic {
		if
		:: s != NONE -> walk_rmap(s, r)
		:: else -> r = NUL
		fi
#ifdef LOCKLESS
	   };
	   /* It locks a head that is not empty, goes through what that leads to, */
	   atomic {
		if
		:: r != NUL && r != STANDIN ->
			CHECK(good_pointer, LIVE(rmap_live, r));
			if
			:: mapped[f] && rmapped[f] == r -> locked_head = f + 1
			:: else
			fi
		:: else
		fi
	   };
	   /* and stores what the head was before. */
	   atomic {
		if
		:: locked_head != 0 ->
			CHECK(good_pointer, LIVE(rmap_live, r));
			CHECK(one_head, !mapped[f] || rmapped[f] == r);
			locked_head = 0
		:: else
		fi
#endif
		;
		srcu_read_unlock(e);
		f = 0; s = 0; r = 0
	   }
	od
}

/* KVM gives a slot what it lacks for shadow paging. */
inline give_arrays(s)
{
	if
	:: s != NONE && rmap[s] == NUL -> rmap[s] = s; rmap_live = rmap_live | (1 << s)
	:: else
	fi;
	if
	:: s != NONE && track[s] == NUL -> track[s] = s; track_live = track_live | (1 << s)
	:: else
	fi
}

inline leave_shadower()
{
	srcu_read_unlock(e);
	g = 0; a = 0
}

/* A vCPU that runs a nested guest: it makes shadow pages and lets them go. */
proctype shadower()
{
	bit e, g;
	byte a;

end:
	do
	QUIT
	:: !shadow ->
	   atomic {
		srcu_read_lock(e);
		if
		:: g = 0
		:: g = 1
		fi;
		a = set[current].slot[g];
		CHECK(no_blink, !STAYS(g) || (a != NONE && !INVALID(a)));
		if
		:: a == NONE || INVALID(a) -> leave_shadower(); goto end	/* a dummy root */
		:: else -> a = 0
		fi
	   };
	   /* mmu_first_shadow_root_alloc() */
	   if
	   :: shadow_root
	   :: atomic {
		!shadow_root && !slots_arch_lock ->
		if
		:: a = set[current].slot[0]; give_arrays(a)
		fi;
		if
		/* no memory for the second: some slots keep what they got */
		:: leave_shadower(); goto end
		:: a = set[current].slot[1]; give_arrays(a); shadow_root = true
		fi
	      }
	   fi;
	   /* account_shadowed(): write-protect the frame, and no huge mapping of it */
	   atomic {
		a = set[current].slot[g];
		CHECK(shadow_has_slot, a != NONE);
		if
		:: shadow || a == NONE -> leave_shadower(); goto end
		:: else
		fi;
		CHECK(good_pointer, track[a] < 4 && LIVE(track_live, track[a]));
		CHECK(good_pointer, LIVE(lpage_live, lpage[a]));
		if
		:: track[a] < 4 -> tracked[track[a]] = tracked[track[a]] | (1 << g)
		:: else
		fi;
		lpage_count[lpage[a]]++;
		if
		:: huge -> writable[0] = false; mmu_writable[0] = false;
			   writable[1] = false; mmu_writable[1] = false
		:: else -> writable[g] = false; mmu_writable[g] = false
		fi;
		shadow = true;
		shadow_gfn = g;
		check_mappings();
		leave_shadower()
	   }
	:: atomic { shadow -> unshadow(a) }
	od
}

/* KVM_GET_DIRTY_LOG of each slot that logs.  It takes slots_lock. */
inline harvest_frame(f, a)
{
	a = set[current].slot[f];
	if
	:: a != NONE && IN(bitmap[a], f) ->
		bitmap[a] = bitmap[a] & ~(1 << f);
		if
		:: huge -> writable[0] = false; writable[1] = false
		:: else -> writable[f] = false
		fi;
		wrote[f] = false
	:: else
	fi;
	a = 0
}

proctype harvester()
{
	byte a;

end:
	do
	QUIT
	:: atomic { !slots_lock -> harvest_frame(0, a); harvest_frame(1, a) }
	od
}

/* When nobody is in the middle of anything, each write is in some bitmap. */
inline judge_frame(f)
{
	CHECK(no_lost_dirty, !wrote[f] ||
	      (KEPT(f) == NONE -> IN(reported, f) :
	       IN(bitmap[set[current].slot[f]], f)))
}

proctype judge()
{
end:
	atomic {
		done && readers[0] == 0 && readers[1] == 0 ->
		judge_frame(0);
		judge_frame(1)
	}
}

/* -------------------------------------------------------------------- start */

/* As write-protected by an earlier harvest, or for access tracking. */
inline first_mapping(f)
{
	mapped[f] = true;
	mmu_writable[f] = !READONLY(0)
}

init {
	atomic {
		set[0].slot[0] = FIRST(0); set[0].slot[1] = FIRST(1);
		set[1].slot[0] = FIRST(0); set[1].slot[1] = FIRST(1);
		lpage[2] = NUL; lpage[3] = NUL;
		rmap[0] = NUL; rmap[1] = NUL; rmap[2] = NUL; rmap[3] = NUL;
		track[0] = NUL; track[1] = NUL; track[2] = NUL; track[3] = NUL;
		lpage[1] = NUL;
#ifdef SHADOWED
		shadow_root = true;
#endif
		create(0);
#ifdef MERGE
		create(1);
#endif
		rmapped[0] = DIRECT; rmapped[1] = DIRECT;
		mmio = NO_MMIO;

		if
		:: host_huge = true; host_both = true
		:: skip
		fi;
		if
		:: skip
		:: first_mapping(0);
		   if
		   :: FIRST(1) != NONE -> first_mapping(1)
		   :: HUGE_FRAME && FIRST(1) == FIRST(0) && host_huge ->
			first_mapping(1);
			huge = true
		   :: FIRST(1) == NONE
		   fi
		fi;

		run operation();
		run vcpu();
#ifdef WITH_VCPU2
		run vcpu();
#endif
#ifdef WITH_WRITER
		run writer();
#endif
#ifdef WITH_NOTIFIER
		run notifier();
#endif
#ifdef WITH_ZAPPER
		run zapper();
#endif
#ifdef WITH_AGING
		run aging();
#endif
#ifdef WITH_SHADOW
		run shadower();
#endif
#ifdef WITH_HARVEST
		run harvester();
#endif
#ifdef LOGGED
		run judge();
#endif
	}
}

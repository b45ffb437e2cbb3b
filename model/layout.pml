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
 *			vCPU may make the first one at any moment
 *   -DLOGGED		the slots log dirty pages
 *   -DALIGNED		the frames are not one huge frame, so no end lies inside one
 *   -DWITH_xxx		who else runs: VCPU2, WRITER, NOTIFIER, AGING, SHADOW, HARVEST
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
#define P_deadlock		15	/* spin finds that without being asked */

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

#define CHECK(property, cond) assert(property || (cond))

/* ----------------------------------------------------------------- layouts */

/*
 * Slots 0 and 1 are old, 2 and 3 new.  OLD(f) and NEW(f): the slot of frame f in
 * either layout; KEPT(f): in the new one without the tail.
 */
#define NONE 4

#if defined(GROW)
#define OLD(f)		(f -> NONE : 0)
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
#define STAYS(f)	(OLD(f) != NONE && KEPT(f) != NONE)
/* Does frame f leave? */
#define LEAVES(f)	(OLD(f) != NONE && KEPT(f) == NONE)

#if defined(TAIL) && !defined(TAIL_VALID)
#define INVALID(s)	(s == 3)
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

#ifdef TAIL_NO_BITMAP
#define HAS_BITMAP(s)	(LOGS && s != 3)
#else
#define HAS_BITMAP(s)	LOGS
#endif

#ifdef SHADOWED
#define HAS_ARRAYS	1
#else
#define HAS_ARRAYS	0
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
#ifdef MMIO_NO_FLUSH
bool unflushed;		/* a vCPU's TLB has page 1 though the page table has not */
#endif
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

/* Give a slot arrays of its own, as KVM does for a slot that is created. */
inline alloc_own(s, ends_inside)
{
	lpage_live = lpage_live | (1 << s);
	lpage_count[s] = ends_inside;
	if
	:: HAS_ARRAYS ->
		rmap_live = rmap_live | (1 << s);
		track_live = track_live | (1 << s)
	:: else
	fi
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
	fi;
	standin_live = true
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

/* A slot uses the span's arrays; an old one gets stand-ins for what is missing. */
inline use_span(s, is_old)
{
	lpage[s] = SPAN;
	rmap[s] = (HAS_ARRAYS -> SPAN : NUL);
	track[s] = (HAS_ARRAYS -> SPAN : NUL);
#ifndef NO_STANDINS
	if
	:: is_old && !HAS_ARRAYS -> rmap[s] = STANDIN; track[s] = STANDIN
	:: else
	fi
#endif
}

/* The mutant without sharing: arrays of one's own from the start. */
inline use_own(s)
{
	lpage[s] = s;
	rmap[s] = (HAS_ARRAYS -> s : NUL);
	track[s] = (HAS_ARRAYS -> s : NUL)
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
#if defined(SHADOWED) && defined(HOLD_OLD_ENDS)
	carry_into_span(0);
#ifdef MERGE
	carry_into_span(1);
#endif
#endif
#ifndef REMOVE
	use_span(2, false);
#endif
#if defined(CUTS) || defined(TAIL)
	use_span(3, false);
#endif
	use_span(0, true);
#ifdef MERGE
	use_span(1, true);
#endif
#endif
	both = true;
	check_mappings()
}

inline stage(f0, f1)
{
	set[1 - current].slot[0] = f0;
	set[1 - current].slot[1] = f1;
	set[1 - current].gen = set[current].gen | 1
}

/* No notifier is between start and end, and none starts during this step. */
#ifdef NO_NOTIFIER_WAIT
#define NO_NOTIFIER	true
#else
#define NO_NOTIFIER	(mn_active == 0)
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

#ifdef KEEP_ARCH_LOCK
#define ARCH_LOCK_AT_SWAP	true
#define ARCH_LOCK_AFTER_WAIT	slots_arch_lock = false
#else
#define ARCH_LOCK_AT_SWAP	false
#define ARCH_LOCK_AFTER_WAIT	skip
#endif

inline swap()
{
	current = 1 - current;
	GEN_AT_SWAP;
	slots_arch_lock = ARCH_LOCK_AT_SWAP;
	check_mappings()
}

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

inline free_array(mask, i)
{
	CHECK(good_pointer, IN(mask, i));
	mask = mask & ~(1 << i)
}

/* kvm_arch_free_memslot() of an old slot, with the arrays that it had at first. */
inline free_old_arrays(o)
{
	free_array(lpage_live, o);
	if
	:: HAS_ARRAYS -> free_array(rmap_live, o); free_array(track_live, o)
	:: else
	fi
}

inline free_old()
{
#if !defined(SET_RO) && !defined(SET_RW)	/* there the new slot took them over */
	free_old_arrays(0);
#ifdef MERGE
	free_old_arrays(1);
#endif
#endif
	skip
}

inline release()
{
#ifndef FREE_EARLY
	free_old();
#endif
	slots_freed = slots_freed | 1;
#ifdef MERGE
	slots_freed = slots_freed | 2;
#endif
#ifdef TAIL
	/* What the tail shared is not its own.  What KVM gave it is. */
#ifdef RETIRE_BLINDLY
	track[3] = NUL;
#endif
	if
	:: rmap[3] == 3 -> free_array(rmap_live, 3)
	:: else
	fi;
	if
	:: track[3] == 3 -> free_array(track_live, 3)
	:: else
	fi;
	slots_freed = slots_freed | 8;
#endif
	standin_live = false
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

proctype operation()
{
	bit e;
	byte a;
	byte r2, t2, r3, t3;	/* used by mutants only, as is the next */
	byte word;

	atomic { !slots_lock -> slots_lock = true };
#ifdef NO_ARCH_LOCK
	slots_arch_lock = false;
#else
	atomic { !slots_arch_lock -> slots_arch_lock = true };
#endif

	/* prepare */
	atomic {
		if
		:: !HAS_ARRAYS && (shadow_root || rmap[OLD(0)] != NUL ||
				   (OLD(1) != NONE && rmap[OLD(1)] != NUL)) ->
			/* Shadow page tables are not supported yet: -EOPNOTSUPP. */
			slots_arch_lock = false;
			slots_lock = false;
			goto out
		:: else
		fi;
		prepare()
	};

	/* share */
	atomic {
#ifndef NO_QUIET
		in_progress == 0 ->
#endif
		share()
	};
#if defined(ZAPS) && defined(ZAP_BEFORE_SWAP)
	zap_what_leaves();
#endif
#ifdef HOLD_END_EARLY
	atomic { lpage_count[SPAN]-- };
#endif

	/* stage */
	atomic {
#ifdef DROP_TAIL_EARLY
		stage(KEPT(0), KEPT(1))
#else
		stage(NEW(0), NEW(1))
#endif
	};

	/* swap */
	atomic { NO_NOTIFIER -> swap() };
#ifdef HOLD_END_AT_SWAP
	atomic { lpage_count[SPAN]-- };
#endif
#if defined(ZAPS) && defined(ZAP_BEFORE_WAIT)
	zap_what_leaves();
#endif
#ifdef MIRROR_EARLY
	atomic { set[1 - current].slot[0] = NONE; set[1 - current].slot[1] = NONE };
	atomic { set[1 - current].slot[0] = KEPT(0); set[1 - current].slot[1] = KEPT(1) };
#endif
#ifdef FOLD_EARLY
	atomic { fold_frame(0); fold_frame(1) };
#endif
#ifdef FREE_EARLY
	atomic { free_old() };
#endif

	/* wait */
#ifndef NO_WAIT
	atomic { e = epoch; epoch = 1 - epoch };
	readers[e] == 0;
#endif
	atomic { ARCH_LOCK_AFTER_WAIT; GEN_AFTER_WAIT; both = false; e = 0 };

	/* mirror: nobody reads this set, so its two steps are one */
	atomic {
		set[1 - current].slot[0] = KEPT(0);
		set[1 - current].slot[1] = KEPT(1)
	};

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
	atomic { !slots_arch_lock -> slots_arch_lock = true };
	atomic {
#ifndef NO_QUIET
		in_progress == 0 ->
#endif
		settle();
		slots_arch_lock = false
	};
#endif
#if defined(SPLIT) && defined(SHADOWED) && !defined(NO_SECOND_WAIT)
	/* A fault may have the pointer to the counts that its slot moved away from. */
	atomic { e = epoch; epoch = 1 - epoch };
	atomic { readers[e] == 0 -> e = 0 };
#endif

	/* vanish */
#ifdef TAIL
	atomic { !slots_arch_lock -> slots_arch_lock = true };
#ifndef NO_TAIL_STANDINS
	/* The tail is about to leave the set that a first shadow root looks at. */
	atomic {
		if
		:: rmap[3] == NUL -> rmap[3] = STANDIN
		:: else
		fi;
		if
		:: track[3] == NUL -> track[3] = STANDIN
		:: else
		fi
	};
#endif
	/* The inactive set never had the tail. */
	atomic { NO_NOTIFIER -> set[1 - current].gen = set[current].gen | 1; swap() };
#ifndef NO_VANISH_WAIT
	atomic { e = epoch; epoch = 1 - epoch };
	readers[e] == 0;
#endif
	atomic {
		ARCH_LOCK_AFTER_WAIT; GEN_AFTER_WAIT; e = 0;
		set[1 - current].slot[0] = KEPT(0);
		set[1 - current].slot[1] = KEPT(1)
	};
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
out:
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

/* Is page f between a notifier's start and its end, or has one come since? */
#define RETRY(f, since)	((in_progress > 0 && NOTIFIED(f)) || seq != since)

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
			goto out
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
			if
			:: f == 1 ->
#ifdef MMIO_NO_FLUSH
				/* What a fresh fault mapped meanwhile is overwritten. */
				unflushed = mapped[f];
				clear_entry(f);
				huge = false;
#else
				zap(f);
#endif
				mmio = set[current].gen >> 1
			:: else
			fi;
			goto out
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
			:: TRACKED(t, f) -> goto out	/* the write is emulated */
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
			:: INVALID(s) -> goto out
			:: else
			fi;
			since = seq;
			old_page = !taken;
			goto slow
		fi
	   };
	   atomic { mark_dirty(s, f); goto out };

slow:
	   /* Here it sleeps for as long as it takes to get the page. */
	   atomic {
		if
		:: RETRY(f, since) -> skip
		:: else ->
			/* A page that the host has taken back must not be mapped. */
			CHECK(notifier_finds, !(old_page && taken && NOTIFIED(f)));
			install(s, f, sh, rm, w, h)
		fi
	   };
out:
	   atomic {
		srcu_read_unlock(e);
		f = 0; sh = false; s = 0; t = 0; since = 0; old_page = false; rm = 0
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
		:: s == NONE || INVALID(s) || READONLY(s) -> goto out
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
	   atomic { mark_dirty(s, f) };
out:
	   atomic { srcu_read_unlock(e); n = 0 }
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

/* Zap frame f as a notifier does that found slot s and its rmaps r. */
inline notifier_zap(f, r)
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
			:: s0 != NONE -> walk_rmap(s0, r0); notifier_zap(0, r0)
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
				notifier_zap(1, r1)
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
#ifdef MMIO_NO_FLUSH
		CHECK(notifier_finds, !unflushed);
#endif
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
		CHECK(notifier_balance, in_progress == 0);
		mn_active--;
		found = false; n = 0
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
		:: else
		fi;
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
		:: a == NONE || INVALID(a) -> goto out	/* not visible: a dummy root */
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
		:: goto out	/* no memory for the second: some slots keep what they got */
		:: a = set[current].slot[1]; give_arrays(a); shadow_root = true
		fi
	      }
	   fi;
	   /* account_shadowed(): write-protect the frame, and no huge mapping of it */
	   atomic {
		a = set[current].slot[g];
		CHECK(shadow_has_slot, a != NONE);
		if
		:: shadow || a == NONE -> goto out
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
		check_mappings()
	   };
out:
	   atomic { srcu_read_unlock(e); g = 0; a = 0 }
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

inline first_arrays(s)
{
	lpage_live = lpage_live | (1 << s);
	lpage[s] = s;
	lpage_count[s] = OLD_ENDS_INSIDE;
	if
	:: HAS_ARRAYS ->
		rmap[s] = s; rmap_live = rmap_live | (1 << s);
		track[s] = s; track_live = track_live | (1 << s)
	:: else
	fi
}

/* As write-protected by an earlier harvest, or for access tracking. */
inline first_mapping(f)
{
	mapped[f] = true;
	mmu_writable[f] = !READONLY(0)
}

init {
	atomic {
		set[0].slot[0] = OLD(0); set[0].slot[1] = OLD(1);
		set[1].slot[0] = OLD(0); set[1].slot[1] = OLD(1);
		lpage[2] = NUL; lpage[3] = NUL;
		rmap[0] = NUL; rmap[1] = NUL; rmap[2] = NUL; rmap[3] = NUL;
		track[0] = NUL; track[1] = NUL; track[2] = NUL; track[3] = NUL;
		lpage[1] = NUL;
		first_arrays(0);
#ifdef MERGE
		first_arrays(1);
#endif
		shadow_root = HAS_ARRAYS;
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
		   :: OLD(1) != NONE -> first_mapping(1)
		   :: HUGE_FRAME && OLD(1) == OLD(0) && host_huge -> first_mapping(1); huge = true
		   :: OLD(1) == NONE
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

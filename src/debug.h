/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Delays between the phases of an operation, for tests that widen a race.
 * Debug builds only: make KVM_MEMSLOT_OPS_DEBUG=y.
 */
#ifndef _MEMSLOT_OPS_DEBUG_H
#define _MEMSLOT_OPS_DEBUG_H

/* What an operation has done; the order is that of layout_replace(). */
enum layout_phase {
	PHASE_ADMITTED,
	PHASE_PREPARED,
	PHASE_SHARED,
	PHASE_STAGED,
	PHASE_SWAPPED,
	PHASE_WAITED,
	PHASE_ZAPPED,
	PHASE_SETTLED,
	NR_PHASES,
};

#ifdef KVM_MEMSLOT_OPS_DEBUG
void debug_phase(enum layout_phase phase);
#else
static inline void debug_phase(enum layout_phase phase) {}
#endif

#endif /* _MEMSLOT_OPS_DEBUG_H */

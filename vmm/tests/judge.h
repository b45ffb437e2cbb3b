/* SPDX-License-Identifier: MIT */
/*
 * Properties that plans must have, and whether they have had them so far.
 */
#ifndef JUDGE_H
#define JUDGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "transition.h"

enum property {
	P_PLANNED,
	P_BOOK,
	P_DONE,
	P_AGAIN,
	P_FLAGS,
	P_STAYS,
	P_STAYS_SOME,
	P_CALLS,
	P_END,
	P_COMES,
	P_NUMBERS,
	P_SAME,
	P_ADDED,
	P_RESIZED,
	P_SWAPS,
	P_DELETES,
	P_FAULT,
	P_ONWARD,
	P_HOOKS,
	P_MOVES,
	P_DIRTY,
	P_GAPS,
	P_NEIGHBOURS,
	P_ORDER,
	P_MAP,
	P_NOSPC,
	P_PRINT,
	NR_PROPERTIES,
};

/**
 * judge - a property holds here, or does not
 * @property: which
 * @holds: whether it does
 * @detail: if it does not: what was seen
 *
 * Return: @holds
 */
bool judge(enum property property, bool holds, const char *detail, ...)
	__attribute__((format(printf, 3, 4)));

/* judge_subject - what judgements are about, until the next one */
void judge_subject(const struct transition *transition,
		   const struct kvm_layout_plan *plan);

/* judge_failed - 1 << property of all that did not hold since judge_reset() */
uint32_t judge_failed(void);
void judge_reset(void);

/* judge_mute - judgements are only in judge_failed(), not in the results */
void judge_mute(bool mute);

/* judge_name - the property, for people */
const char *judge_name(enum property property);

/*
 * judge_example - what was judged, the plan, and what was seen, of the first
 * judgement of @property that was bad since judge_reset()
 */
const char *judge_example(enum property property);

/* judge_known_bad - a judgement of @property was bad, and counted */
bool judge_known_bad(enum property property);

/* judge_report - print a result for each property that was judged at all */
void judge_report(void);

/* judge_end - frees what is kept */
void judge_end(void);

#endif /* JUDGE_H */

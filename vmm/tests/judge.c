// SPDX-License-Identifier: MIT
/*
 * Properties of plans, and whether they hold: see judge.h.
 */
#include "judge.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "tap.h"

static const char *const names[NR_PROPERTIES] = {
	[P_PLANNED] = "there is a plan for what is possible",
	[P_BOOK] = "steps tell the slots before and after",
	[P_DONE] = "noting steps keeps the layout as KVM has it",
	[P_AGAIN] = "what is no step from a layout is not noted",
	[P_FLAGS] = "steps say when something is missing or a log is lost",
	[P_STAYS] = "1: what stays is there, with flags as before or after",
	[P_STAYS_SOME] = "1, 12: so it is where operations are missing",
	[P_CALLS] = "2: every call is one that KVM accepts",
	[P_END] = "3: at the end there is what was wanted",
	[P_COMES] = "4: what comes and what goes does so once, in its step",
	[P_NUMBERS] = "5: numbers are those that may be used, and the first's",
	[P_SAME] = "6: the same again needs no step",
	[P_ADDED] = "6: additions are created or grown, nothing else",
	[P_RESIZED] = "6: a slot is resized in one step",
	[P_SWAPS] = "7: without the module not more than delete and create",
	[P_DELETES] = "7: with the module nothing is deleted",
	[P_FAULT] = "8: stopped anywhere, the layout is what KVM has",
	[P_ONWARD] = "8: stopped anywhere, plans lead on and back",
	[P_HOOKS] = "hooks are called when they should be",
	[P_MOVES] = "9: moves tell where all pages that stay are",
	[P_DIRTY] = "9: every dirty page is told exactly once",
	[P_GAPS] = "10, 12: gaps are told exactly",
	[P_NEIGHBOURS] = "10: only what is replaced is missing, for a step",
	[P_ORDER] = "11: the order of the input does not matter",
	[P_MAP] = "a map needs no step more than a partition",
	[P_NOSPC] = "just as many numbers as are used are enough",
	[P_PRINT] = "a line for each step and gap is printed",
};

static unsigned long nr_judged[NR_PROPERTIES];
static unsigned long nr_bad[NR_PROPERTIES];
static char *examples[NR_PROPERTIES];
static uint32_t failed;
static bool muted;
static const struct transition *subject;
static const struct kvm_layout_plan *subject_plan;

void judge_subject(const struct transition *transition,
		   const struct kvm_layout_plan *plan)
{
	subject = transition;
	subject_plan = plan;
}

static void keep_example(enum property property, const char *detail,
			 va_list args)
{
	size_t size;
	FILE *to;

	free(examples[property]);
	to = open_memstream(&examples[property], &size);
	if (!to)
		abort();
	if (subject)
		transition_print(subject, to);
	if (subject_plan)
		kvm_layout_plan_print(subject_plan, to);
	fprintf(to, "=> ");
	vfprintf(to, detail, args);
	fputc('\n', to);
	fclose(to);
}

bool judge(enum property property, bool holds, const char *detail, ...)
{
	va_list args;

	if (!muted) {
		nr_judged[property]++;
		nr_bad[property] += !holds;
	}
	if (holds || failed & 1U << property)
		return holds;
	failed |= 1U << property;
	va_start(args, detail);
	keep_example(property, detail, args);
	va_end(args);
	return false;
}

uint32_t judge_failed(void)
{
	return failed;
}

void judge_reset(void)
{
	failed = 0;
}

void judge_mute(bool mute)
{
	muted = mute;
}

const char *judge_name(enum property property)
{
	return names[property];
}

const char *judge_example(enum property property)
{
	return examples[property] ? examples[property] : "";
}

bool judge_known_bad(enum property property)
{
	return nr_bad[property];
}

void judge_report(void)
{
	for (int i = 0; i < NR_PROPERTIES; i++) {
		if (!nr_judged[i])
			continue;
		tap_ok(!nr_bad[i], "%s", names[i]);
		if (nr_bad[i])
			tap_note("%lu of %lu times not", nr_bad[i],
				 nr_judged[i]);
		else
			tap_note("judged %lu times", nr_judged[i]);
	}
}

void judge_end(void)
{
	for (int i = 0; i < NR_PROPERTIES; i++) {
		free(examples[i]);
		examples[i] = NULL;
	}
}

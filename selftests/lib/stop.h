/* SPDX-License-Identifier: GPL-2.0 */
/*
 * An operation stops after one of its phases, and somebody has a good look.
 *
 * That the operation stands where it should, before and after the look, is read off
 * its stack; where it went on too early, the delay is doubled and the look repeated.
 * The delays (delays.h) are no part of what is checked.
 */
#ifndef SELFTESTS_STOP_H
#define SELFTESTS_STOP_H

#include "async.h"
#include "changes.h"

/* A place where an operation can stop, and what is true there. */
struct place {
	const char *name;
	unsigned int delay;		/* in the module's list */
	int swaps;			/* so far; but for what comes */
	bool coming;			/* of GROW only: the old layout, and what comes */
	bool admitted;			/* what comes is there, invalid */
	bool shared;			/* cuts of both layouts count */
	bool swapped;			/* new lookups meet the new layout */
	bool zapped;
	bool vanished;			/* the tail has */
};

/* Where an operation is once it has returned. */
extern const struct place nowhere;

/* An operation that stops, and where. */
struct stop {
	const struct change *change;
	const struct place *place;
	struct async op;
	int dev;
	/* What it fails with, unless it went on before the look was over. */
	int err;
	/* What was not as it should be, provided that it still stands there. */
	char wrong[256];
};

/* What a test does; @me is its own. */
struct stop_actions {
	/* The layout is that of before. */
	void (*before)(void *me, struct stop *s);
	/* The operation stands there. */
	void (*there)(void *me, struct stop *s);
	/* It has returned; the layout is gone afterwards. */
	void (*after)(void *me, struct stop *s);
};

/* Every operation in every place that it comes by. */
void stop_everywhere(int dev, const struct stop_actions *actions, void *me);
/* One operation. */
void stop_one_everywhere(const struct change *c, int dev,
			 const struct stop_actions *actions, void *me);

/* Whether the operation stands there still. */
bool stop_stands(struct stop *s);

/*
 * What must be so if the operation stood there until the look was over. Of what is
 * not, the first is told.
 */
void __printf(3, 4) stop_expect(struct stop *s, bool good, const char *fmt, ...);

#endif

// SPDX-License-Identifier: GPL-2.0
#include <stdarg.h>

#include "kvm_util.h"

#include "delays.h"
#include "host.h"
#include "stop.h"
#include "trace.h"

static const struct place places[] = {
	/* GROW only. */
	{ .name = "swapped to what comes", .delay = 4, .coming = true,
	  .admitted = true },
	{ .name = "waited for what comes", .delay = 5, .coming = true,
	  .admitted = true },
	{ .name = "admitted", .delay = 0, .coming = true,
	  .admitted = true },
	{ .name = "prepared", .delay = 1, .admitted = true },
	{ .name = "shared", .delay = 2, .admitted = true, .shared = true },
	{ .name = "staged", .delay = 3, .admitted = true, .shared = true },
	{ .name = "swapped", .delay = 4, .swaps = 1, .shared = true,
	  .swapped = true },
	{ .name = "waited", .delay = 5, .swaps = 1, .shared = true,
	  .swapped = true },
	{ .name = "zapped", .delay = 6, .swaps = 1, .shared = true,
	  .swapped = true, .zapped = true },
	{ .name = "settled", .delay = 7, .swaps = 1, .swapped = true,
	  .zapped = true },
	/* SHRINK only. */
	{ .name = "swapped again", .delay = 4, .swaps = 2, .swapped = true,
	  .zapped = true, .vanished = true },
	{ .name = "waited again", .delay = 5, .swaps = 2, .swapped = true,
	  .zapped = true, .vanished = true },
};

const struct place nowhere = {
	.name = "over",
	.swapped = true,
	.zapped = true,
	.vanished = true,
};

static bool comes_by(const struct change *c, const struct place *p)
{
	if (p->coming)
		return c == &changes[CHANGE_GROW];
	return p->swaps < 2 || c == &changes[CHANGE_SHRINK];
}

/* How often an operation has swapped the sets there. */
static int swaps_at(const struct change *c, const struct place *p)
{
	return p->swaps + (c == &changes[CHANGE_GROW]);
}

bool stop_stands(struct stop *s)
{
	return trace_count("memslot_op_swap") == swaps_at(s->change, s->place) &&
	       async_stands_in(&s->op, "msleep");
}

static bool there_or_gone(void *arg)
{
	struct stop *s = arg;

	return s->op.done || stop_stands(s);
}

void stop_expect(struct stop *s, bool good, const char *fmt, ...)
{
	va_list args;

	if (good || s->wrong[0])
		return;
	va_start(args, fmt);
	vsnprintf(s->wrong, sizeof(s->wrong), fmt, args);
	va_end(args);
}

static int call_change(void *arg)
{
	struct stop *s = arg;

	return change_make(s->dev, s->change);
}

static void stop_once(const struct change *c, const struct place *p, int dev,
		      const struct stop_actions *actions, void *me)
{
	struct stop s = { .change = c, .place = p, .dev = dev };
	/* What was enough for one look is where the next begins. */
	static unsigned int ms = 500;
	bool seen;

	do {
		s.wrong[0] = 0;
		s.err = 0;
		actions->before(me, &s);
		trace_start();
		delays_set(p->delay, ms);
		async_start(&s.op, call_change, &s);
		TEST_ASSERT(host_wait(there_or_gone, &s), "%s hangs", c->name);
		seen = !s.op.done;
		if (seen) {
			actions->there(me, &s);
			seen = stop_stands(&s);
		}
		TEST_ASSERT(!seen || !s.wrong[0], "%s, %s: %s", c->name,
			    p->name, s.wrong);
		/* Only what is to come; it sleeps on where it is. */
		delays_end();
		async_join(&s.op);
		TEST_ASSERT(s.op.err == s.err || (!seen && !s.op.err),
			    "%s, %s: %s", c->name, p->name, strerror(s.op.err));
		s.wrong[0] = 0;
		s.place = &nowhere;
		actions->after(me, &s);
		TEST_ASSERT(!s.wrong[0], "%s, after a stop when %s: %s",
			    c->name, p->name, s.wrong);
		s.place = p;
		if (!seen)
			ms *= 2;
		TEST_ASSERT(ms < 60000, "%s, %s: no time for a look", c->name,
			    p->name);
	} while (!seen);
}

void stop_one_everywhere(const struct change *c, int dev,
			 const struct stop_actions *actions, void *me)
{
	const struct place *p;

	for (p = places; p < places + ARRAY_SIZE(places); p++) {
		if (comes_by(c, p))
			stop_once(c, p, dev, actions, me);
	}
}

void stop_everywhere(int dev, const struct stop_actions *actions, void *me)
{
	const struct change *c;

	for (c = changes; c < changes + NR_CHANGES; c++)
		stop_one_everywhere(c, dev, actions, me);
}

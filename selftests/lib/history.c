// SPDX-License-Identifier: GPL-2.0
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>

#include "history.h"
#include "host.h"

#define NR_LINES	40

static struct {
	const char *test;
	const struct layout *layout;
	void (*print_setup)(void);
	uint64_t nr;
	char line[NR_LINES][200];
} history;

static bool over;

void history_add(const char *fmt, ...)
{
	char *line = history.line[history.nr++ % NR_LINES];
	va_list args;

	va_start(args, fmt);
	vsnprintf(line, sizeof(history.line[0]), fmt, args);
	va_end(args);
}

void history_result(int err)
{
	char *line = history.line[(history.nr - 1) % NR_LINES];
	size_t len = strlen(line);

	snprintf(line + len, sizeof(history.line[0]) - len, ": %s",
		 err ? strerror(err) : "done");
}

/* At exit, whichever way a check failed. */
static void print_history(void)
{
	uint64_t i;

	if (over)
		return;
	over = true;

	ksft_print_msg("the last of %lu steps, oldest first:\n", history.nr);
	i = history.nr > NR_LINES ? history.nr - NR_LINES : 0;
	for (; i < history.nr; i++)
		ksft_print_msg("  %lu: %s\n", i, history.line[i % NR_LINES]);
	ksft_print_msg("the slots:\n");
	for (i = 0; i < history.layout->nr; i++)
		ksft_print_msg("  %s\n", model_slot_name(&history.layout->slot[i]));
	history.print_setup();
	ksft_test_result_fail("%s\n", history.test);
	fflush(NULL);
}

void history_begin(const char *test, const struct layout *layout,
		   void (*print_setup)(void))
{
	history.test = test;
	history.layout = layout;
	history.print_setup = print_setup;
	host_choose_seed();
	host_seed();
	atexit(print_history);
}

const char *history_close(void)
{
	over = true;
	return history.test;
}

/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A program that makes one test of many steps: what the last ones were is printed
 * when it fails, in whatever thread, and by exit() from wherever.
 */
#ifndef SELFTESTS_HISTORY_H
#define SELFTESTS_HISTORY_H

#include "kvm_util.h"

#include "layout_model.h"

/*
 * @layout: the slots to print as well; @print_setup: how to have that again.
 * Chooses a seed that can be named then.
 */
void history_begin(const char *test, const struct layout *layout,
		   void (*print_setup)(void));
__printf(1, 2) void history_add(const char *fmt, ...);
/* How the last one ended. */
void history_result(int err);
/* Nothing is to be printed any more; returns the test's name. */
const char *history_close(void);

/* The test's result. Here, because each file that includes kselftest.h counts its own. */
static inline void history_end(bool ok)
{
	const char *test = history_close();

	if (ok)
		ksft_test_result_pass("%s\n", test);
	else
		ksft_test_result_fail("%s\n", test);
	fflush(NULL);
}

#endif

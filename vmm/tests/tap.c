// SPDX-License-Identifier: MIT
/*
 * Results of tests: see tap.h.
 */
#include "tap.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int nr_results;
static int nr_failed;

bool tap_ok(bool holds, const char *what, ...)
{
	va_list args;

	nr_results++;
	nr_failed += !holds;
	printf("%sok - ", holds ? "" : "not ");
	va_start(args, what);
	vprintf(what, args);
	va_end(args);
	putchar('\n');
	fflush(stdout);
	return holds;
}

void tap_note(const char *what, ...)
{
	va_list args;

	printf("# ");
	va_start(args, what);
	vprintf(what, args);
	va_end(args);
	putchar('\n');
}

void tap_lines(const char *lines)
{
	while (*lines) {
		int length = strcspn(lines, "\n");

		printf("# %.*s\n", length, lines);
		lines += length;
		lines += *lines == '\n';
	}
}

int tap_failed(void)
{
	return nr_failed;
}

int tap_end(void)
{
	printf("1..%d\n", nr_results);
	fflush(stdout);
	return nr_failed ? 1 : 0;
}

uint64_t tap_number(const char *text, uint64_t least, void (*usage)(void))
{
	char *end;
	uint64_t n = strtoull(text, &end, 0);

	if (*end || end == text || n < least)
		usage();
	return n;
}

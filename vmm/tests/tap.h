/* SPDX-License-Identifier: MIT */
/*
 * Results of tests, one a line, as the Test Anything Protocol has them.
 */
#ifndef TAP_H
#define TAP_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* tap_ok - a result.  Return: @holds */
bool tap_ok(bool holds, const char *what, ...)
	__attribute__((format(printf, 2, 3)));

/* tap_note - a line of details */
void tap_note(const char *what, ...) __attribute__((format(printf, 1, 2)));

/* tap_lines - details of several lines */
void tap_lines(const char *lines);

/* tap_end - prints the plan.  Return: what main() returns */
int tap_end(void);

/* tap_failed - how many results were bad so far */
int tap_failed(void);

/*
 * tap_number - the number that an option of a test is
 * @least: it is not below
 * @usage: called where it is none; does not return
 */
uint64_t tap_number(const char *text, uint64_t least, void (*usage)(void));

#ifdef __cplusplus
}
#endif

#endif /* TAP_H */

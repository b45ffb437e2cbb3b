/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Where arguments of calls lie: in good memory and in bad, and in memory that
 * somebody else changes meanwhile.
 */
#ifndef FUZZ_ARGUMENT_H
#define FUZZ_ARGUMENT_H

#include <stdbool.h>
#include <stddef.h>

#include "input.h"

#define MAX_ARGUMENT	2048

void argument_init(void);
/*
 * Copies the argument to such a place, as far as that is possible, and returns its
 * address.  In the contested place it has to begin with the number of a slot.
 */
void *argument_put(enum place place, const void *argument, size_t size);
/* A place of that kind which is as large as the longest bitmap. */
void *argument_room(enum place place);
/* Whether the contested place is being contested. */
void argument_meddle(bool on);

#endif

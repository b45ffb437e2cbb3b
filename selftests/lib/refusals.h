/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Operations that the module must refuse, with everything as it was.
 */
#ifndef SELFTESTS_REFUSALS_H
#define SELFTESTS_REFUSALS_H

#include "chooser.h"

/* One on slot number @i; false if this choice comes to nothing. */
bool refusal_choose(const struct chooser *c, unsigned int i, struct step *s);

#endif

/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Other processes: one that descriptors are passed to, one that inherits them,
 * and one that is killed in the midst of its own VM's operations.
 */
#ifndef FUZZ_OTHER_H
#define FUZZ_OTHER_H

#include <stdbool.h>

/* Before there are threads. */
void other_init(void);
/*
 * Each makes a GROW with the descriptor of a device from another process, and
 * fails the test unless that ends with EIO.
 */
void other_inherits(int dev, bool killed);
void other_receives(int dev);
/* Makes operations in a process of its own that is killed after so long. */
void other_dies(unsigned int usecs, unsigned int seed);

#endif

// SPDX-License-Identifier: GPL-2.0
#include <linux/delay.h>
#include <linux/module.h>

#include "debug.h"

static unsigned int delay_ms[NR_PHASES];
module_param_array(delay_ms, uint, NULL, 0644);
MODULE_PARM_DESC(delay_ms,
		 "milliseconds to wait after: admitted, prepared, shared, staged, swapped, waited, zapped, settled");

/**
 * debug_phase() - wait as long as the test asked for
 * @phase: what the operation has just done
 *
 * Context: Sleeps.
 */
void debug_phase(enum layout_phase phase)
{
	unsigned int ms = READ_ONCE(delay_ms[phase]);

	if (ms)
		msleep(ms);
}

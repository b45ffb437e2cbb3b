// SPDX-License-Identifier: GPL-2.0
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kvm_util.h"

#include "host.h"
#include "profile.h"
#include "trace.h"

#define MAX_FUNCTIONS	500

/* What is looked at with all that it calls; and in what functions that may spend its time. */
static const char *const roots[] = { "kvm_vm_ioctl", "kvm_device_ioctl" };
static const char *const watched[] = {
	"*:mod:kvm", "*:mod:kvm_memslot_ops", "synchronize_srcu*", "__vmalloc*", "__vcalloc*",
	"vfree", "kvfree", "vmap", "vunmap", "find_vm_area", "__kmalloc*", "kfree", "alloc_pages*",
	"pin_user_pages*", "unpin_user_page*", "mutex_lock", "schedule", "copy_to_user",
	"_copy_to_user", "memset",
};

struct function {
	char name[64];
	unsigned int calls;
	double us;
};

static int add_to(const char *file, const char *name)
{
	int fd = open(file, O_WRONLY | O_APPEND | O_CLOEXEC);
	int r = fd < 0 || write(fd, name, strlen(name)) < 0;

	if (fd >= 0)
		close(fd);
	return r;
}

bool profile_start(void)
{
	char pid[16];
	unsigned int i;

	/* Not every kernel has all of them. */
	for (i = 0; i < ARRAY_SIZE(watched); i++)
		add_to(TRACEFS "set_ftrace_filter", watched[i]);
	for (i = 0; i < ARRAY_SIZE(roots); i++) {
		if (add_to(TRACEFS "set_graph_function", roots[i]))
			return false;
	}

	snprintf(pid, sizeof(pid), "%d", gettid());
	return !host_write(TRACEFS "set_ftrace_pid", pid) &&
	       !host_write(TRACEFS "current_tracer", "function_graph") &&
	       !host_write(TRACEFS "options/funcgraph-irqs", "0") &&
	       !host_write(TRACEFS "options/funcgraph-tail", "1") &&
	       !host_write(TRACEFS "tracing_on", "1");
}

/* After its time and a bar, the end of a call: its name, in a comment if there were others. */
static bool read_line(const char *line, char *name, size_t size, double *us)
{
	const char *bar = strchr(line, '|'), *end = strstr(line, " us "), *p;

	if (!bar || !end || end > bar)
		return false;

	for (p = end; p > line && strchr("0123456789.", p[-1]); p--)
		;
	*us = strtod(p, NULL);
	p = bar + 1 + strspn(bar + 1, " }/*");
	snprintf(name, size, "%.*s", (int)strcspn(p, "( ;"), p);
	return true;
}

static int compare_functions(const void *a, const void *b)
{
	const struct function *f = a, *g = b;

	return (f->us < g->us) - (f->us > g->us);
}

static unsigned int add(struct function *all, unsigned int nr, const char *name, double us)
{
	unsigned int i;

	for (i = 0; i < nr && strcmp(all[i].name, name); i++)
		;
	if (i == MAX_FUNCTIONS)
		return nr;
	snprintf(all[i].name, sizeof(all[i].name), "%s", name);
	all[i].calls++;
	all[i].us += us;
	return max(nr, i + 1);
}

void profile_end(const char *title)
{
	struct function *all = calloc(MAX_FUNCTIONS, sizeof(*all));
	char line[512], name[sizeof(all->name)];
	unsigned int i, nr = 0;
	FILE *trace;
	double us;

	host_write(TRACEFS "tracing_on", "0");
	trace = fopen(TRACEFS "trace", "r");
	while (trace && fgets(line, sizeof(line), trace)) {
		if (read_line(line, name, sizeof(name), &us))
			nr = add(all, nr, name, us);
	}
	if (trace)
		fclose(trace);
	host_write(TRACEFS "current_tracer", "nop");
	host_write(TRACEFS "set_graph_function", " ");
	host_write(TRACEFS "set_ftrace_filter", " ");

	qsort(all, nr, sizeof(*all), compare_functions);
	printf("%s:\n", title);
	for (i = 0; i < nr && all[i].us >= all[0].us / 50; i++)
		printf("%12.1f us %5.1f %% %5u x %s\n", all[i].us, 100 * all[i].us / all[0].us,
		       all[i].calls, all[i].name);
	free(all);
}

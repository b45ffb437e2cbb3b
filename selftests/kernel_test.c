// SPDX-License-Identifier: GPL-2.0
/*
 * One of the kernel tree's own tests, unmodified:
 *
 *	kernel_test [-o N] NAME [option]...
 *
 *	-o N	with operations in its VMs that it does not know of (see
 *		lib/injector.c); fewer than N are a failure
 *
 * What it prints becomes comments, and how it ends a line of TAP.
 */
#include <sys/wait.h>

#include "kvm_util.h"

#include "host.h"
#include "injector.h"
#include "memslot_ops.h"

/* Their main(), as the Makefile calls it. */
typedef int main_fn(int argc, char *argv[]);

main_fn access_tracking_perf_test_main;
main_fn demand_paging_test_main;
main_fn dirty_log_perf_test_main;
main_fn dirty_log_test_main;
main_fn guest_memfd_test_main;
main_fn memslot_modification_stress_test_main;
main_fn memslot_perf_test_main;
main_fn pre_fault_memory_test_main;
main_fn set_memory_region_test_main;

static const struct {
	const char *name;
	main_fn *main;
} tests[] = {
	{ "access_tracking_perf_test", access_tracking_perf_test_main },
	{ "demand_paging_test", demand_paging_test_main },
	{ "dirty_log_perf_test", dirty_log_perf_test_main },
	{ "dirty_log_test", dirty_log_test_main },
	{ "guest_memfd_test", guest_memfd_test_main },
	{ "memslot_modification_stress_test",
	  memslot_modification_stress_test_main },
	{ "memslot_perf_test", memslot_perf_test_main },
	{ "pre_fault_memory_test", pre_fault_memory_test_main },
	{ "set_memory_region_test", set_memory_region_test_main },
};

/* Some say this, and that all is well. */
static const char * const did_nothing[] = {
	"No full loops done",
	"Memslot count",
	"usage: ",
};

static main_fn *find_main(const char *name)
{
	unsigned int i;

	for (i = 0; name && i < ARRAY_SIZE(tests); i++) {
		if (!strcmp(tests[i].name, name))
			return tests[i].main;
	}
	ksft_exit_fail_msg("see the source for the options\n");
}

static int run(int argc, char *argv[], uint64_t wanted)
{
	main_fn *kernel_main = find_main(argv[0]);
	int status;

	if (!wanted)
		return kernel_main(argc, argv);

	host_seed();
	injector_start();
	status = kernel_main(argc, argv);
	TEST_ASSERT(injector_stop() >= wanted, "fewer than %lu operations", wanted);
	return status;
}

/* Whether it did anything; @reason: why it was skipped. */
static bool print_output(int fd, char *reason, size_t size)
{
	FILE *output = fdopen(fd, "r");
	bool did = true;
	char line[1024], *skip;
	unsigned int i;

	TEST_ASSERT(output, "no memory");
	while (fgets(line, sizeof(line), output)) {
		line[strcspn(line, "\r\n")] = 0;
		ksft_print_msg("%s\n", line);
		skip = strstr(line, "# SKIP ");
		if (skip)
			snprintf(reason, size, "%s",
				 skip + strlen("# SKIP ") + strspn(skip + 7, "- "));
		for (i = 0; i < ARRAY_SIZE(did_nothing); i++)
			did &= !strstr(line, did_nothing[i]);
	}
	fclose(output);
	return did;
}

int main(int argc, char *argv[])
{
	char reason[256] = "no reason given", name[256] = "";
	int ends[2], status, i;
	uint64_t wanted = 0;
	pid_t pid;
	bool did;

	ksft_print_header();
	for (i = 1; i < argc; i++)
		snprintf(name + strlen(name), sizeof(name) - strlen(name), "%s%s",
			 i > 1 ? " " : "", argv[i]);
	if (argc > 2 && !strcmp(argv[1], "-o")) {
		wanted = strtoull(argv[2], NULL, 0);
		TEST_ASSERT(wanted, "-o wants a number");
		argc -= 2;
		argv += 2;
		if (!memslot_ops_present())
			ksft_exit_skip("the module is not loaded\n");
	}
	find_main(argv[1]);
	ksft_set_plan(1);

	TEST_ASSERT(!pipe(ends), "cannot make a pipe");
	fflush(NULL);
	pid = fork();
	TEST_ASSERT(pid >= 0, "cannot fork");
	/* It exits where it fails. */
	if (!pid) {
		dup2(ends[1], STDOUT_FILENO);
		dup2(ends[1], STDERR_FILENO);
		close(ends[0]);
		close(ends[1]);
		setlinebuf(stdout);
		exit(run(argc - 1, argv + 1, wanted));
	}
	close(ends[1]);
	did = print_output(ends[0], reason, sizeof(reason));
	TEST_ASSERT(waitpid(pid, &status, 0) == pid, "the child is lost");
	if (!WIFEXITED(status))
		ksft_print_msg("killed by signal %d\n", WTERMSIG(status));
	status = WIFEXITED(status) && did ? WEXITSTATUS(status) : KSFT_FAIL;
	if (status == KSFT_SKIP)
		ksft_test_result_code(status, name, "%s", reason);
	else
		ksft_test_result_code(status, name, NULL);
	ksft_finished();
}

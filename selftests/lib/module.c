// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "test_util.h"

#include "module.h"

int module_open(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	TEST_ASSERT(fd >= 0, "there is no %s", path);
	return fd;
}

int module_load_fd(int fd, const char *params, int flags)
{
	return syscall(SYS_finit_module, fd, params, flags) ? errno : 0;
}

int module_load(const char *path, const char *params, int flags)
{
	int fd = module_open(path), err = module_load_fd(fd, params, flags);

	close(fd);
	return err;
}

void module_find(const char *name, char *path, size_t size)
{
	char *at;

	snprintf(path, size, "/modules/%s.ko", name);
	while (access(path, R_OK) && (at = strrchr(path, '_')))
		*at = '-';
}

int module_load_of_host(const char *name, const char *params)
{
	char path[256];

	module_find(name, path, sizeof(path));
	return module_load(path, params, 0);
}

int module_unload(const char *name)
{
	/* As rmmod does. */
	return syscall(SYS_delete_module, name, O_NONBLOCK) ? errno : 0;
}

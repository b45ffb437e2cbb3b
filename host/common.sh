# SPDX-License-Identifier: GPL-2.0
# Sourced by the other scripts of this folder.
# shellcheck shell=bash

set -euo pipefail

# depmod and modprobe live in sbin, which an ordinary user's PATH lacks on Debian.
PATH=$PATH:/usr/sbin:/sbin

# shellcheck disable=SC2034 # used by whoever sources this
host=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(dirname "$host")

# What programs say is read here, and "make check" must not pass its own flags on to builds.
export LC_ALL=C.UTF-8
unset MAKEFLAGS MFLAGS MAKELEVEL

# Everything that is downloaded or built goes here, outside the tree.
cache=${KVM_MEMSLOT_OPS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/kvm-memslot-ops}

# What is built from this tree; two checkouts that share the cache must not overwrite each other's.
# shellcheck disable=SC2034
build=$cache/build/$(printf %s "$top" | cksum | cut -d' ' -f1)

say() { printf '%s\n' "$*" >&2; }

die() {
	say "${0##*/}: $*"
	exit "${status_of_death:-1}"
}

# usage: prints the comment at the head of the script, from its second line on.
usage() { sed -n '3,/^[^#]/s/^# \{0,1\}//p' "$host/${0##*/}"; }

# on_debian: whether packages can be had from apt
on_debian() { command -v apt-get dpkg-deb dpkg-query apt-cache >/dev/null; }

# locked NAME COMMAND...: runs the command while no other process holds that name's lock.
locked() {
	local name=$1 fd
	shift
	mkdir -p "$cache/lock"
	exec {fd}>"$cache/lock/$name"
	if ! flock -n "$fd"; then
		say "waiting for another run that works on $name"
		flock "$fd"
	fi
	"$@"
	exec {fd}>&-
}

# Before 8.1, when a kernel patches its own text on one CPU, QEMU's others go on with stale translations of it,
# and oops at random.
qemu_wanted=8.1

qemu_version() { qemu-system-x86_64 --version 2>/dev/null | sed -n 's/.*version \([0-9]*\.[0-9]*\).*/\1/p'; }

qemu_is_new_enough() {
	local version
	version=$(qemu_version)
	[[ $version ]] && printf '%s\n' "$qemu_wanted" "$version" | sort -VC
}

# What a healthy kernel says on this machine: QEMU has no microcode that mitigates SRSO.
noise='Speculative Return Stack Overflow: WARNING: See https://'

# complaints LOG: the lines of it in which a kernel says that something is wrong with it
complaints() {
	grep -anE \
		-e 'BUG:|kernel BUG at|WARNING:|Oops|Kernel panic|general protection fault|double fault|invalid opcode' \
		-e 'KASAN:|UBSAN:|suspected memory leaks|unreferenced object|refcount_t:|list_.* corruption|Bad page' \
		-e 'possible .* detected|inconsistent lock state|suspicious RCU usage|locks? held|scheduling while atomic' \
		-e 'blocked for more than|soft lockup|hard LOCKUP|detected (expedited )?stall|kthread starved' \
		-e 'unchecked MSR access' \
		"$1" | grep -v "$noise"
}

# try NAME COMMAND...: a check, whose result is a line of TAP; what the command said follows where it failed
try() {
	local name=$1 said
	shift
	if said=$("$@" 2>&1); then
		echo "ok - $name"
	else
		echo "not ok - $name"
		echo "# ${said//$'\n'/$'\n'# }"
	fi
}

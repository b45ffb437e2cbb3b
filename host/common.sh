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

# The host kernels that tests run on, see host/kernel: all, and those of every day.
# shellcheck disable=SC2034
all_kernels=(newest 7.2 6.18 6.12 6.1 older debug-newest debug builtin kcsan) daily_kernels=(newest 7.2 6.18 6.12 6.1 older debug-newest)

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

# await_cpu: until a job of this shell can have a CPU for itself; false if one that has ended failed
await_cpu() {
	local status=0
	while (($(jobs -pr | wc -l) >= $(nproc))); do
		wait -n || status=$?
	done
	return "$status"
}

# have_kernel KERNEL: makes one of host/kernel available. Where that fails it is the end, but for those that the archive
# drops as it gets newer ones: then it is false.
have_kernel() {
	"$host/kernel" "$1" >/dev/null && return
	[[ $1 == 7.2 || $1 == 6.18 ]] || die "the kernel $1 cannot be had"
	return 1
}

# params_for KERNEL: the module's, as host/boot takes them: the newest may be newer than what has been tested
params_for() { [[ $1 != *newest && $1 != kcsan ]] || echo ,allow_unknown_kernel=1; }

# start TARGET: an empty folder, which gets its name when it is complete, so that an interrupted run leaves none behind
start() {
	rm -rf "$1.new"
	mkdir -p "$1.new"
	echo "$1.new"
}

# debian_mirror CODENAME: where apt has that release from
debian_mirror() {
	# shellcheck disable=SC2016 # apt's variables
	apt-get indextargets --format '$(CODENAME) $(REPO_URI)' 'Created-By: Packages' |
		sed -n "s/^$1 //p" | head -n1 | grep . || die "apt knows no mirror of Debian $1"
}

# Debian's newer kernels, and what they are compiled with, come from trixie and its backports, and a QEMU that takes
# memory away while vCPUs run comes from bookworm, whatever this machine runs. They are looked up and downloaded by an
# apt that has its own sources, lists and idea of what is installed, which is nothing. It leaves the machine's own alone,
# and needs no root.

# use_suite CODENAME: makes all apt commands that follow those of that apt
use_suite() {
	suite=$1 suite_apt=$cache/apt/$1
	[[ -e $suite_apt ]] || locked apt configure_suite
	export APT_CONFIG=$suite_apt/apt.conf
	[[ -e $suite_apt/updated ]] || refresh_suite
}

# refresh_suite: before something is downloaded, for old lists name what cannot be had any more
refresh_suite() { [[ $(find "$suite_apt/updated" -mmin -60 2>/dev/null) ]] || locked apt update_suite; }

# sources_of_suite: where that apt looks, as apt writes it
sources_of_suite() {
	local own mirror security keys=/usr/share/keyrings/debian-archive-keyring.gpg
	[[ -e $keys ]] || die "Debian's keys are missing: $keys"
	own=$(. /etc/os-release && echo "${VERSION_CODENAME-}")
	mirror=$(debian_mirror "$own")
	source_of_suite deb "$mirror" "$suite"
	case $suite in
	trixie)
		source_of_suite "deb deb-src" "$mirror" "$suite-backports"
		;;
	bookworm)
		security=$(debian_mirror "$own-security")
		source_of_suite deb "$security" "$suite-security"
		;;
	esac
}

# source_of_suite TYPES URI SUITE
source_of_suite() { printf '%s\n' "Types: $1" "URIs: $2" "Suites: $3" "Components: main" "Signed-By: $keys" ''; }

configure_suite() {
	local dir
	[[ ! -e $suite_apt ]] || return 0

	dir=$(start "$suite_apt")
	mkdir -p "$dir"/{etc/{apt.conf.d,preferences.d},state/lists/partial,cache/archives/partial}
	touch "$dir/state/status"
	sources_of_suite >"$dir/etc/debian.sources"
	# Of the machine's own settings those apply that say how it gets at the network.
	{ apt-config dump | grep -E '^Acquire::https?::' || true; } >"$dir/apt.conf"
	cat >>"$dir/apt.conf" <<-END
		Dir::State "$suite_apt/state";
		Dir::State::status "$suite_apt/state/status";
		Dir::Cache "$suite_apt/cache";
		Dir::Etc "$suite_apt/etc";
		Dir::Etc::sourceparts "$suite_apt/etc";
		APT::Architecture "amd64";
		APT::Architectures { "amd64"; };
		APT::Install-Recommends "false";
		APT::Sandbox::User "root";
		APT::Update::Error-Mode "any";
		Acquire::Languages "none";
	END
	mv -T "$dir" "$suite_apt"
}

update_suite() {
	say "updating the lists of $suite's packages"
	apt-get -qq update >&2 || die "cannot get the lists of $suite's packages"
	touch "$suite_apt/updated"
}

# unpack_packages CODENAME WHAT DIR PACKAGE...: of that suite, for what they are, and all that they depend on, so that the
# empty folder is the root of a system with these. Nothing is configured: what packages do when they are installed has not
# been done.
unpack_packages() {
	local dir=$3 deb
	use_suite "$1"
	refresh_suite
	say "downloading and unpacking $2"
	shift 3
	mkdir -p "$dir"/{debs/partial,tmp,proc,sys,dev,usr/{bin,sbin,lib,lib64}}
	ln -s usr/{bin,sbin,lib,lib64} "$dir"
	apt-get -qq -y -o Dir::Cache::archives="$dir/debs" install --download-only "$@" >&2
	for deb in "$dir"/debs/*.deb; do
		dpkg-deb --fsys-tarfile "$deb" |
			tar -xC "$dir" --keep-directory-symlink --no-same-owner --no-same-permissions \
				--exclude='./usr/share/doc/*' --exclude='./usr/share/man/*' \
				--exclude='./usr/share/locale/*'
	done
	rm -r "$dir/debs"
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

# complaints: reads a kernel's log, and prints the lines in which it says that something is wrong with it
complaints() {
	grep -anE \
		-e 'BUG:|kernel BUG at|WARNING:|Oops|Kernel panic|general protection fault|double fault|invalid opcode' \
		-e 'KASAN:|UBSAN:|suspected memory leaks|unreferenced object|refcount_t:|list_.* corruption|Bad page' \
		-e 'possible .* detected|inconsistent lock state|suspicious RCU usage|locks? held|scheduling while atomic' \
		-e 'blocked for more than|soft lockup|hard LOCKUP|detected (expedited )?stall|kthread starved' \
		-e 'unchecked MSR access' | grep -v "$noise"
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

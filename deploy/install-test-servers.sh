#!/bin/sh
# Installs what the tests run against, redis-server, PostgreSQL, PgBouncer, Chromium, npm
# (for a mock server and checkers), curl and openssl, from Debian's packages where they are
# missing. The tests start throwaway copies of their own, so nothing is left running as a
# system service.
#
# Where it cannot install (not root, not Debian) it says what to install and
# succeeds: the tests that need the server are skipped, and say so. With CI=true
# a missing server is an error.
set -eu

say() { echo "test servers: $*"; }

have_redis() { command -v redis-server >/dev/null 2>&1; }

# Debian keeps PostgreSQL's programs out of PATH, in a folder per version.
have_postgres() {
	command -v initdb >/dev/null 2>&1 && return
	for initdb in /usr/lib/postgresql/*/bin/initdb; do
		[ -x "$initdb" ] && return
	done
	return 1
}

# Debian keeps it where only root has it in PATH.
have_pgbouncer() {
	command -v pgbouncer >/dev/null 2>&1 || [ -x /usr/sbin/pgbouncer ]
}

have_npm() { command -v npm >/dev/null 2>&1; }

# Debian's package brings a font along, by fontconfig.
have_chromium() {
	command -v chromium >/dev/null 2>&1 || command -v chromium-browser >/dev/null 2>&1 ||
		command -v google-chrome >/dev/null 2>&1
}

have_curl() { command -v curl >/dev/null 2>&1; }

have_openssl() { command -v openssl >/dev/null 2>&1; }

missing() {
	have_redis || echo redis-server
	have_postgres || echo postgresql
	have_pgbouncer || echo pgbouncer
	have_npm || echo npm
	have_chromium || echo chromium
	have_curl || echo curl
	have_openssl || echo openssl
}

# Debian starts a service as soon as its package is installed unless
# policy-rc.d forbids it. Where the machine has a policy already, it stays.
policy=/usr/sbin/policy-rc.d
policy_is_ours=
forbid_services() {
	[ -e "$policy" ] && return
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod 755 "$policy"
	policy_is_ours=yes
}
allow_services() {
	if [ -n "$policy_is_ours" ]; then rm -f "$policy"; fi
}

# The package lists are fetched only if the install fails without: on a machine
# in daily use they are fresh enough, on a new one they are absent.
install_packages() {
	log=$(mktemp)
	forbid_services
	trap 'allow_services; rm -f "$log"' EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM
	export DEBIAN_FRONTEND=noninteractive
	set -- apt-get install -y -q --no-install-recommends "$@"
	if "$@" >"$log" 2>&1; then return; fi
	if apt-get update -q >"$log" 2>&1 && "$@" >>"$log" 2>&1; then return; fi
	cat "$log" >&2
	return 1
}

wanted=$(missing | tr '\n' ' ')
wanted=${wanted% }
if [ -z "$wanted" ]; then
	exit 0
fi

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
	say "installing $wanted with apt-get, not as running services"
	# shellcheck disable=SC2086 # a list of package names
	install_packages $wanted || say "apt-get failed"
	wanted=$(missing | tr '\n' ' ')
	wanted=${wanted% }
fi

if [ -n "$wanted" ]; then
	say "missing: $wanted. Install it with your package manager."
	if [ "${CI:-}" = true ]; then exit 1; fi
	say "going on: the tests that need it are skipped"
fi

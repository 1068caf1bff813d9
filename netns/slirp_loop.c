/* The container's frames <-> libslirp: one poll(2) loop, entered from Python without the GIL.
 *
 * libslirp is not thread-safe: whoever called rl_net_new calls everything else here. Python enters rl_net_run and gets
 * control back when one of its own descriptors is readable (control socket, wake-up pipe of its signals), so rules are
 * changed between two turns of the loop, by the same thread.
 *
 * Source: libslirp.h (SlirpConfig version 4, libslirp 4.7); Documentation/networking/tuntap.rst
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#if __has_include(<slirp/libslirp.h>)
#include <slirp/libslirp.h>
#else
#include <libslirp.h>
#endif

#include "slirp_loop.h"

#if SLIRP_CONFIG_VERSION_MAX < 4
#error "libslirp 4.7 or newer is needed"
#endif

/* One poll costs a walk over all sockets, so a turn takes many frames; more than this starves the sockets. */
enum { FRAMES_PER_TURN = 64, FRAME_MAX = 65536 + 14 + 4, TIMERS = 8, WATCHED = 8, BACKLOG = 128 };

struct timer {
	bool used;
	SlirpTimerId id;
	void *opaque;
	int64_t expires_ms; /* -1: not set */
};

struct rl_net {
	struct rl_net_config config;
	struct rl_net_counts counts;
	Slirp *slirp;
	int tap;
	struct timer timers[TIMERS];
	struct pollfd *fds;
	size_t used, room;
	/* libslirp keeps these two by address. */
	struct sockaddr_in outbound;
	struct sockaddr_in6 outbound6;
	uint8_t frame[FRAME_MAX];
};

static int64_t now_ns(void *opaque)
{
	struct timespec t;
	(void)opaque;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static ssize_t send_packet(const void *data, size_t size, void *opaque)
{
	struct rl_net *net = opaque;
	net->counts.to_guest++;
	ssize_t n;
	do n = write(net->tap, data, size); while (n < 0 && errno == EINTR);
	/* A frame that the device does not take now (down, queue full) is lost, as on a wire; TCP sends it again. */
	return n < 0 ? (ssize_t)size : n;
}

static void guest_error(const char *text, void *opaque)
{
	/* The container decides how often this is said: saying it would let it fill our log. */
	(void)text;
	(void)opaque;
}

static void *timer_new(SlirpTimerId id, void *timer_opaque, void *opaque)
{
	struct rl_net *net = opaque;
	for (int i = 0; i < TIMERS; i++)
		if (!net->timers[i].used) {
			net->timers[i] = (struct timer){ true, id, timer_opaque, -1 };
			return &net->timers[i];
		}
	abort(); /* libslirp 4.7 to 4.9 has one timer */
}

static void timer_free(void *timer, void *opaque)
{
	(void)opaque;
	if (timer) ((struct timer *)timer)->used = false;
}

static void timer_mod(void *timer, int64_t expires_ms, void *opaque)
{
	(void)opaque;
	((struct timer *)timer)->expires_ms = expires_ms;
}

static void ignore_fd(int fd, void *opaque)
{
	(void)fd;
	(void)opaque;
}

/* "The guest takes data again": every turn asks all sockets anyway. */
static void ignore_notify(void *opaque) { (void)opaque; }

static const SlirpCb callbacks = {
	.send_packet = send_packet,
	.guest_error = guest_error,
	.clock_get_ns = now_ns,
	.timer_new_opaque = timer_new,
	.timer_free = timer_free,
	.timer_mod = timer_mod,
	.register_poll_fd = ignore_fd,
	.unregister_poll_fd = ignore_fd,
	.notify = ignore_notify,
};

static struct in_addr in4(const uint8_t *bytes)
{
	struct in_addr a;
	memcpy(&a, bytes, 4);
	return a;
}

static struct in6_addr in6(const uint8_t *bytes)
{
	struct in6_addr a;
	memcpy(&a, bytes, 16);
	return a;
}

rl_net *rl_net_new(const struct rl_net_config *c)
{
	struct rl_net *net = calloc(1, sizeof *net);
	if (!net) return NULL;
	net->config = *c;
	net->tap = -1;
	SlirpConfig s = {
		.version = 4,
		.in_enabled = true,
		.vnetwork = in4(c->network),
		.vnetmask = in4(c->mask),
		.vhost = in4(c->gateway),
		.vdhcp_start = in4(c->dhcp_start),
		.vnameserver = in4(c->nameserver),
		.in6_enabled = c->ipv6,
		.vprefix_addr6 = in6(c->prefix6),
		.vprefix_len = (uint8_t)c->prefix6_bits,
		.vhost6 = in6(c->gateway6),
		.vnameserver6 = in6(c->nameserver6),
		.if_mtu = c->mtu,
		.if_mru = c->mtu,
		.disable_host_loopback = !c->allow_host_loopback,
		.disable_dns = !c->dns,
	};
	if (c->has_outbound) {
		net->outbound = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr = in4(c->outbound) };
		s.outbound_addr = &net->outbound;
	}
	if (c->has_outbound6) {
		net->outbound6 = (struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_addr = in6(c->outbound6) };
		s.outbound_addr6 = &net->outbound6;
	}
	net->slirp = slirp_new(&s, &callbacks, net);
	if (!net->slirp) {
		free(net);
		return NULL;
	}
	return net;
}

void rl_net_free(rl_net *net)
{
	if (!net) return;
	slirp_cleanup(net->slirp);
	free(net->fds);
	free(net);
}

static socklen_t address(struct sockaddr_storage *out, int family, const uint8_t *bytes, uint16_t port)
{
	memset(out, 0, sizeof *out);
	out->ss_family = (sa_family_t)family;
	if (family == AF_INET6) {
		struct sockaddr_in6 *a = (struct sockaddr_in6 *)out;
		a->sin6_addr = in6(bytes);
		a->sin6_port = htons(port);
		return sizeof *a;
	}
	struct sockaddr_in *a = (struct sockaddr_in *)out;
	a->sin_addr = in4(bytes);
	a->sin_port = htons(port);
	return sizeof *a;
}

/* libslirp sets SO_REUSEADDR, with which two UDP sockets may share one port: ask without it first. */
static int port_is_free(int family, const struct sockaddr_storage *host, socklen_t size)
{
	int fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0), result = 0;
	if (fd < 0) return -errno;
	int one = 1;
	if (family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
	if (bind(fd, (const struct sockaddr *)host, size) < 0) result = -errno;
	close(fd);
	return result;
}

int rl_net_forward(rl_net *net, bool udp, int family, const uint8_t *host, uint16_t *port, const uint8_t *guest,
		   uint16_t guest_port)
{
	struct sockaddr_storage from, to, bound;
	socklen_t size = address(&from, family, host, *port), bound_size = sizeof bound;
	address(&to, family, guest, guest_port);
	if (udp) {
		int busy = port_is_free(family, &from, size);
		if (busy < 0) return busy;
	}
	/* libslirp does not say which socket it made. It makes one, so it is the lowest free number. */
	int fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0);
	if (fd < 0) return -errno;
	close(fd);
	int flags = (udp ? SLIRP_HOSTFWD_UDP : 0) | (family == AF_INET6 ? SLIRP_HOSTFWD_V6ONLY : 0);
	errno = 0;
	if (slirp_add_hostxfwd(net->slirp, (struct sockaddr *)&from, size, (struct sockaddr *)&to, size, flags) < 0)
		return errno ? -errno : -EIO;
	if (getsockname(fd, (struct sockaddr *)&bound, &bound_size) < 0) return -errno;
	/* libslirp listens with a backlog of 1: a burst of clients would wait for their SYN to be sent again. */
	if (!udp && listen(fd, BACKLOG) < 0) return -errno;
	*port = ntohs(family == AF_INET6 ? ((struct sockaddr_in6 *)&bound)->sin6_port
					 : ((struct sockaddr_in *)&bound)->sin_port);
	return fd;
}

int rl_net_unforward(rl_net *net, bool udp, int family, const uint8_t *host, uint16_t port)
{
	struct sockaddr_storage from;
	socklen_t size = address(&from, family, host, port);
	int flags = (udp ? SLIRP_HOSTFWD_UDP : 0) | (family == AF_INET6 ? SLIRP_HOSTFWD_V6ONLY : 0);
	return slirp_remove_hostxfwd(net->slirp, (struct sockaddr *)&from, size, flags) < 0 ? -ENOENT : 0;
}

static int push(struct rl_net *net, int fd, short events)
{
	if (net->used == net->room) {
		size_t room = net->room ? 2 * net->room : 64;
		struct pollfd *more = realloc(net->fds, room * sizeof *more);
		if (!more) return -1;
		net->fds = more;
		net->room = room;
	}
	net->fds[net->used] = (struct pollfd){ fd, events, 0 };
	return (int)net->used++;
}

static int add_poll(int fd, int events, void *opaque)
{
	short wanted = 0;
	if (events & SLIRP_POLL_IN) wanted |= POLLIN;
	if (events & SLIRP_POLL_OUT) wanted |= POLLOUT;
	if (events & SLIRP_POLL_PRI) wanted |= POLLPRI;
	return push(opaque, fd, wanted);
}

static int get_events(int index, void *opaque)
{
	struct rl_net *net = opaque;
	if (index < 0 || (size_t)index >= net->used) return 0;
	short got = net->fds[index].revents;
	int events = 0;
	if (got & POLLIN) events |= SLIRP_POLL_IN;
	if (got & POLLOUT) events |= SLIRP_POLL_OUT;
	if (got & POLLPRI) events |= SLIRP_POLL_PRI;
	if (got & POLLERR) events |= SLIRP_POLL_ERR;
	if (got & POLLHUP) events |= SLIRP_POLL_HUP;
	return events;
}

static uint32_t until_next_timer(const struct rl_net *net, uint32_t timeout_ms)
{
	int64_t now = now_ns(NULL) / 1000000;
	for (int i = 0; i < TIMERS; i++) {
		const struct timer *t = &net->timers[i];
		if (!t->used || t->expires_ms < 0) continue;
		int64_t left = t->expires_ms > now ? t->expires_ms - now : 0;
		if (left < timeout_ms) timeout_ms = (uint32_t)left;
	}
	return timeout_ms;
}

static void run_timers(struct rl_net *net)
{
	int64_t now = now_ns(NULL) / 1000000;
	for (int i = 0; i < TIMERS; i++) {
		struct timer *t = &net->timers[i];
		if (!t->used || t->expires_ms < 0 || t->expires_ms > now) continue;
		t->expires_ms = -1;
		slirp_handle_timer(net->slirp, t->id, t->opaque);
	}
}

/* Give the stack what the container sent. -ENODEV: the device is gone. */
static int take_frames(struct rl_net *net)
{
	for (int i = 0; i < FRAMES_PER_TURN; i++) {
		ssize_t n = read(net->tap, net->frame, sizeof net->frame);
		if (n < 0 && errno == EINTR) continue;
		if (n < 0 && (errno == EAGAIN || errno == ENETDOWN)) return 0;
		if (n < 0) return errno == EBADFD || errno == ENXIO ? -ENODEV : -errno;
		net->counts.from_guest++;
		if (rl_frame_allowed(&net->config, net->frame, (size_t)n))
			slirp_input(net->slirp, net->frame, (int)n);
		else
			net->counts.dropped++;
	}
	return 0;
}

int rl_net_run(rl_net *net, int tap, const int *watched, int count)
{
	if (count < 0 || count > WATCHED) return -EINVAL;
	net->tap = tap;
	for (;;) {
		net->used = 0;
		for (int i = 0; i < count; i++)
			if (push(net, watched[i], POLLIN) < 0) return -ENOMEM;
		int at_tap = push(net, tap, POLLIN);
		if (at_tap < 0) return -ENOMEM;
		uint32_t timeout_ms = UINT32_MAX;
		slirp_pollfds_fill(net->slirp, &timeout_ms, add_poll, net);
		timeout_ms = until_next_timer(net, timeout_ms);
		int n = poll(net->fds, net->used, timeout_ms > INT32_MAX ? -1 : (int)timeout_ms);
		if (n < 0 && errno != EINTR) return -errno;
		bool interrupted = n < 0;
		net->counts.turns++;
		/* Before the frames: this is where libslirp looks at the clock, and with a clock that stands at 0 it takes
		 * an address of the name server that it never read for a fresh one. */
		slirp_pollfds_poll(net->slirp, interrupted, get_events, net);
		short at_door = interrupted ? 0 : net->fds[at_tap].revents;
		if (at_door & POLLIN) {
			int result = take_frames(net);
			if (result < 0) return result;
		} else if (at_door & (POLLERR | POLLHUP | POLLNVAL)) {
			return -ENODEV;
		}
		run_timers(net);
		if (interrupted) return 0;
		int ready = 0;
		for (int i = 0; i < count; i++)
			if (net->fds[i].revents) ready |= 1 << i;
		if (ready) return ready;
	}
}

void rl_net_count(const rl_net *net, struct rl_net_counts *counts) { *counts = net->counts; }

const char *rl_slirp_version(void) { return slirp_version_string(); }

unsigned rl_slirp_config_version_max(void) { return SLIRP_CONFIG_VERSION_MAX; }

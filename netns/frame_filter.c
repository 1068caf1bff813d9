/* Which frames of the container may enter the stack: none that would make it open a socket to the host's loopback.
 *
 * libslirp connects to whatever address a frame names. A program in the container with CAP_NET_RAW can write frames
 * that its own kernel would never route, so addresses that mean "this host" to our kernel must be stopped here:
 * libslirp's disable_host_loopback looks at the gateway's address alone.
 *
 * The name server's address stands for the host's first resolver, which may be on its loopback (127.0.0.53): only
 * port 53 of it is let through, or every port of that address would be.
 *
 * Source: RFC 1122 section 3.2.1.3, RFC 4291 section 2.5, RFC 6890; libslirp src/socket.c sotranslate_out
 */
#include <string.h>

#include "slirp_loop.h"

enum { ETH = 14, IPV4 = 20, IPV6 = 40, TYPE_IPV4 = 0x0800, TYPE_ARP = 0x0806, TYPE_IPV6 = 0x86dd };
enum { PROTO_TCP = 6, PROTO_UDP = 17, PROTO_ICMP6 = 58, PROTO_ICMP = 1, PORT_DNS = 53, PORT_TFTP = 69 };

static unsigned get16(const uint8_t *p) { return (unsigned)p[0] << 8 | p[1]; }

/* The name server: nothing but DNS and ping. */
static int nameserver_allowed(unsigned protocol, const uint8_t *payload, size_t size)
{
	if (protocol == PROTO_ICMP || protocol == PROTO_ICMP6) return 1;
	return (protocol == PROTO_TCP || protocol == PROTO_UDP) && size >= 4 && get16(payload + 2) == PORT_DNS;
}

static int ipv4_allowed(const struct rl_net_config *config, const uint8_t *ip, size_t size)
{
	static const uint8_t everybody[4] = { 255, 255, 255, 255 };
	if (size < IPV4 || ip[0] >> 4 != 4) return 0;
	size_t head = (size_t)(ip[0] & 15) * 4;
	if (head < IPV4 || head > size) return 0;
	const uint8_t *to = ip + 16, *payload = ip + head;
	unsigned protocol = ip[9], fragment = get16(ip + 6) & 0x3fff; /* offset and "more fragments" */
	if (to[0] == 127 || to[0] == 0) return 0; /* connect(0.0.0.0) is connect(127.0.0.1) on Linux */
	if (config->dns && !memcmp(to, config->nameserver, 4))
		/* Only a first fragment has ports, and a later one may overwrite them: a query needs none. */
		return !fragment && nameserver_allowed(protocol, payload, size - head);
	if (protocol == PROTO_UDP && (!memcmp(to, everybody, 4) || !memcmp(to, config->gateway, 4)))
		/* libslirp answers TFTP itself here; we serve none, so its parser is not offered to the container. */
		return !fragment && size - head >= 4 && get16(payload + 2) != PORT_TFTP;
	return 1;
}

static int ipv6_allowed(const struct rl_net_config *config, const uint8_t *ip, size_t size)
{
	static const uint8_t zeros[12], mapped[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };
	if (!config->ipv6 || size < IPV6 || ip[0] >> 4 != 6) return 0;
	const uint8_t *to = ip + 24, *payload = ip + IPV6;
	if (!memcmp(to, zeros, 12)) return 0;        /* ::, ::1 and the deprecated ::a.b.c.d */
	if (!memcmp(to, mapped, 12)) return 0;       /* ::ffff:127.0.0.1 is IPv4 loopback to a socket */
	if (to[0] == 0xff && (to[1] & 15) <= 1) return 0; /* multicast that never leaves the interface or node */
	if (config->dns && !memcmp(to, config->nameserver6, 16)) return nameserver_allowed(ip[6], payload, size - IPV6);
	if (ip[6] == PROTO_UDP && !memcmp(to, config->gateway6, 16))
		return size - IPV6 >= 4 && get16(payload + 2) != PORT_TFTP;
	return 1;
}

int rl_frame_allowed(const struct rl_net_config *config, const uint8_t *frame, size_t size)
{
	if (size < ETH) return 0;
	switch (get16(frame + 12)) {
	case TYPE_ARP:
		return 1;
	case TYPE_IPV4:
		return ipv4_allowed(config, frame + ETH, size - ETH);
	case TYPE_IPV6:
		return ipv6_allowed(config, frame + ETH, size - ETH);
	default: /* libslirp also parses NC-SI; nothing of ours speaks it */
		return 0;
	}
}

/* What Python sees of the network stack: slirp_loop.c, in the syntax of cffi. */

struct rl_net_config {
	unsigned mtu;
	bool ipv6, dns, allow_host_loopback, has_outbound, has_outbound6;
	uint8_t network[4], mask[4], gateway[4], nameserver[4], dhcp_start[4];
	uint8_t prefix6[16], gateway6[16], nameserver6[16];
	unsigned prefix6_bits;
	uint8_t outbound[4], outbound6[16];
};

struct rl_net_counts {
	uint64_t from_guest, to_guest, dropped, turns;
};

typedef struct rl_net rl_net;

/* All functions that can fail return -errno. */
rl_net *rl_net_new(const struct rl_net_config *config);
void rl_net_free(rl_net *net);

/* Add a published port and return its descriptor (owned by the stack); *port 0 is replaced by the port that was bound. */
int rl_net_forward(rl_net *net, bool udp, int family, const uint8_t *host, uint16_t *port, const uint8_t *guest,
		   uint16_t guest_port);
int rl_net_unforward(rl_net *net, bool udp, int family, const uint8_t *host, uint16_t port);

/* Carry frames between the tap and the stack until one of the watched descriptors is readable;
 * return the bit mask of those (at most 8), 0 after a signal, -ENODEV when the tap is gone. */
int rl_net_run(rl_net *net, int tap, const int *watched, int count);
void rl_net_count(const rl_net *net, struct rl_net_counts *counts);

/* Tell whether a frame of the container may enter the stack: 1 yes, 0 no. */
int rl_frame_allowed(const struct rl_net_config *config, const uint8_t *frame, size_t size);

/* Allow this process only the system calls that the loop needs. */
int rl_net_seccomp(void);

const char *rl_slirp_version(void);
unsigned rl_slirp_config_version_max(void);

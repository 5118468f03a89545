# One image for both services: rsync-inotify on the source, start-sshd on the backup.
#   docker build -f rsync_inotify.dockerfile -t rsync-inotify:latest .
# Where Debian's servers or npm's are slow or filtered: --build-arg APT_MIRROR=http://… --build-arg NPM_REGISTRY=https://…
ARG BUN_IMAGE=oven/bun:1.4.4
ARG BASE_IMAGE=debian:trixie-slim

# The sources of apt, which are used below, but not left in the image.
FROM ${BASE_IMAGE} AS apt
ARG APT_MIRROR
COPY packaging/mirrors.sh /
RUN sh /mirrors.sh apt

# Bun, which builds the programs and is a part of them, runs on these two.
FROM --platform=$BUILDPLATFORM ${BUN_IMAGE} AS for-amd64
FROM for-amd64 AS for-arm64
FROM --platform=$BUILDPLATFORM ${BASE_IMAGE} AS for-arm
RUN echo 'rsync-inotify runs on amd64 (x86-64) and arm64 only: there is no Bun for other processors, as those of 32 bits' >&2; exit 1
FROM for-arm AS for-386

FROM for-${TARGETARCH} AS build
WORKDIR /build
COPY package.json bun.lockb bunfig.toml packaging/mirrors.sh ./
ARG NPM_REGISTRY
RUN sh mirrors.sh npm
COPY scripts ./scripts
COPY src ./src
ARG BUILDARCH TARGETARCH
# The image's own Bun goes into the binaries; for another architecture `bun build` fetches that one's.
RUN case "$TARGETARCH" in \
      "$BUILDARCH") ;; \
      amd64) bun=bun-linux-x64 ;; \
      arm64) bun=bun-linux-aarch64 ;; \
    esac; \
    export TARGET="${bun:+--target=$bun}"; \
    [ -z "$NPM_REGISTRY" ] || export BUN_COMPILE_TARGET_TARBALL_URL="${NPM_REGISTRY%/}/@oven/$bun/-/$bun-$(bun --version).tgz"; \
    bun run build

FROM ${BASE_IMAGE}
LABEL org.opencontainers.image.title="rsync-inotify" \
      org.opencontainers.image.description="One-way real-time mirror of a directory tree over rsync and SSH" \
      org.opencontainers.image.licenses="MIT"
# openssh-server makes host keys; left in the image, all containers would share them.
# Nobody but root is here to become somebody else, so no program needs a set-uid or set-gid bit.
# apt knows a proxy by small letters alone, and by itself goes on without the lists of a server that does not answer.
RUN --mount=type=bind,from=apt,source=/etc/apt,target=/etc/apt \
    export http_proxy="${http_proxy-$HTTP_PROXY}" https_proxy="${https_proxy-$HTTPS_PROXY}" no_proxy="${no_proxy-$NO_PROXY}"; \
    apt-get -o APT::Update::Error-Mode=any update \
 && apt-get install -y --no-install-recommends \
      rsync inotify-tools openssh-client openssh-server netcat-openbsd procps bash \
 && rm -rf /var/lib/apt/lists/* /var/cache/* /var/log/* /etc/ssh/ssh_host_* \
 && find / -xdev -perm /6000 -exec chmod a-s {} +
COPY LICENSE THIRD_PARTY_NOTICES.txt /usr/share/doc/rsync-inotify/
COPY --from=build /build/dist/rsync-inotify /build/dist/start-sshd /usr/local/bin/
# An rsync or ssh by hand knows the backup by the host keys that rsync-inotify has taken from the shared volume.
RUN echo 'UserKnownHostsFile ~/.ssh/known_hosts ~/.ssh/known_hosts-shared-keys' >/etc/ssh/ssh_config.d/rsync-inotify.conf
RUN mkdir -p /scripts /data/source /data/backup /shared-keys \
 && install -d -m 700 /root/.ssh \
 && ln -s /usr/local/bin/rsync-inotify /scripts/rsync-inotify.sh \
 && ln -s /usr/local/bin/start-sshd /scripts/start-sshd.sh
WORKDIR /data
CMD ["rsync-inotify"]

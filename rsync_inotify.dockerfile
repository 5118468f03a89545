# One image for both services: rsync-inotify on the source, start-sshd on the backup.
#   docker build -f rsync_inotify.dockerfile -t rsync-inotify:latest .
ARG BUN_IMAGE=oven/bun:1.4.4
ARG BASE_IMAGE=debian:trixie-slim

FROM --platform=$BUILDPLATFORM ${BUN_IMAGE} AS build
WORKDIR /build
COPY package.json bun.lockb bunfig.toml ./
RUN bun install --frozen-lockfile --production
COPY scripts ./scripts
COPY src ./src
ARG BUILDARCH TARGETARCH
# The image's own Bun goes into the binaries; for another architecture `bun build` fetches that one's.
RUN case "$TARGETARCH" in \
      "$BUILDARCH") ;; \
      amd64) export TARGET=--target=bun-linux-x64 ;; \
      *) export TARGET="--target=bun-linux-$TARGETARCH" ;; \
    esac; \
    bun run build

FROM ${BASE_IMAGE}
LABEL org.opencontainers.image.title="rsync-inotify" \
      org.opencontainers.image.description="One-way real-time mirror of a directory tree over rsync and SSH" \
      org.opencontainers.image.licenses="MIT"
# openssh-server makes host keys; left in the image, all containers would share them.
# Nobody but root is here to become somebody else, so no program needs a set-uid or set-gid bit.
RUN apt-get update \
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

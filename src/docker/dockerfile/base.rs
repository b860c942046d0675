//! The generated Dockerfile of the base image.

/// The base image's Dockerfile. Uses nothing that only one of Docker's two builders knows.
///
/// `digest` is `None` for the text that the digest is made from.
pub fn base_recipe(base: &str, source_url: &str, digest: Option<&str>) -> String {
    let labels = [("org.opencontainers.image.source", source_url), ("al.base-digest", digest.unwrap_or_default())];
    let labels: String = labels
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("LABEL {name}=\"{value}\"\n"))
        .collect();
    format!(
        r#"FROM {base}
USER root
RUN set -e; miss=""; \
    for c in bash git curl jq ssh; do command -v "$c" >/dev/null 2>&1 || miss=1; done; \
    [ -s /etc/ssl/certs/ca-certificates.crt ] || miss=1; \
    if [ -n "$miss" ]; then \
      if command -v apk >/dev/null 2>&1; then \
        apk add --no-cache bash git curl jq ca-certificates openssh-client; \
      elif command -v apt-get >/dev/null 2>&1; then \
        apt-get update; \
        DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
          bash git curl jq ca-certificates openssh-client; \
        rm -rf /var/lib/apt/lists/*; \
      else echo "base image has neither apk nor apt-get" >&2; exit 1; fi; \
    fi; \
    grep -q '^node:' /etc/group  || echo 'node:x:1000:' >> /etc/group; \
    grep -q '^node:' /etc/passwd || echo 'node:x:1000:1000:agent:/home/node:/bin/sh' >> /etc/passwd; \
    mkdir -p /home/node /app/static; chown 1000:1000 /home/node; \
    [ -e /workspace ] || [ -L /workspace ] || ln -s /tmp/workspace /workspace
COPY bin/ /app/bin/
COPY agent-docs/ /app/agent-docs/
ARG GIT_SHA=unknown
ARG VERSION=unknown
LABEL org.opencontainers.image.revision=$GIT_SHA
LABEL org.opencontainers.image.version=$VERSION
{labels}WORKDIR /app
USER node
ENTRYPOINT ["/app/bin/al-agent"]
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn base_recipes_differ_in_the_base_alone() {
        let alpine = base_recipe("alpine:3.22", "https://example.org/al", Some("d1"));
        let debian = base_recipe("debian:bookworm-slim", "https://example.org/al", Some("d1"));
        assert_eq!(alpine.replace("alpine:3.22", "debian:bookworm-slim"), debian);
        expect![[r#"
            FROM debian:bookworm-slim
            USER root
            RUN set -e; miss=""; \
                for c in bash git curl jq ssh; do command -v "$c" >/dev/null 2>&1 || miss=1; done; \
                [ -s /etc/ssl/certs/ca-certificates.crt ] || miss=1; \
                if [ -n "$miss" ]; then \
                  if command -v apk >/dev/null 2>&1; then \
                    apk add --no-cache bash git curl jq ca-certificates openssh-client; \
                  elif command -v apt-get >/dev/null 2>&1; then \
                    apt-get update; \
                    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
                      bash git curl jq ca-certificates openssh-client; \
                    rm -rf /var/lib/apt/lists/*; \
                  else echo "base image has neither apk nor apt-get" >&2; exit 1; fi; \
                fi; \
                grep -q '^node:' /etc/group  || echo 'node:x:1000:' >> /etc/group; \
                grep -q '^node:' /etc/passwd || echo 'node:x:1000:1000:agent:/home/node:/bin/sh' >> /etc/passwd; \
                mkdir -p /home/node /app/static; chown 1000:1000 /home/node; \
                [ -e /workspace ] || [ -L /workspace ] || ln -s /tmp/workspace /workspace
            COPY bin/ /app/bin/
            COPY agent-docs/ /app/agent-docs/
            ARG GIT_SHA=unknown
            ARG VERSION=unknown
            LABEL org.opencontainers.image.revision=$GIT_SHA
            LABEL org.opencontainers.image.version=$VERSION
            LABEL org.opencontainers.image.source="https://example.org/al"
            LABEL al.base-digest="d1"
            WORKDIR /app
            USER node
            ENTRYPOINT ["/app/bin/al-agent"]
        "#]]
        .assert_eq(&debian);
        assert!(!base_recipe("alpine:3.22", "", None).contains("al.base-digest"));
    }
}

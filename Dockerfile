# The server and the simulated fleet as static binaries, without a shell and
# without root. The image holds no PostgreSQL: give it --database-url.
FROM golang:1.26.8-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags="-s -w" -o /out/ ./cmd/mooring ./cmd/fleet \
 && mkdir /out/data

FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /out/mooring /out/fleet /usr/local/bin/
# A volume that is mounted here starts with this owner.
COPY --from=build --chown=nonroot:nonroot /out/data /var/lib/mooring
USER nonroot:nonroot
WORKDIR /var/lib/mooring
ENV MOORING_DATA_DIR=/var/lib/mooring
EXPOSE 8080
# Alive, not ready: a database that is away is no reason to restart the server,
# which holds rows for it.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
  CMD ["/usr/local/bin/mooring", "healthcheck"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/mooring"]
CMD ["serve"]

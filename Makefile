# `make run`: measure the suite `quick` and report. `make test`: everything that CI runs. `make quality`: whether models
# learn as well as they should, in half an hour.
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/ready

.PHONY: run test quality golden clean

run: $(READY)
	@$(VENV)/bin/tandem run quick; code=$$?; \
	if [ $$code -eq 0 ] || [ $$code -eq 3 ]; then $(VENV)/bin/tandem report latest --format html -o runs/report.html || code=$$?; fi; \
	exit $$code

test: $(READY)
	@$(VENV)/bin/ruff check --quiet .
	@$(VENV)/bin/ruff format --quiet --check .
	@$(VENV)/bin/mypy --no-error-summary
	@$(VENV)/bin/python -m pytest -q -m alone
	@$(VENV)/bin/python -m pytest -q -n 2 --dist loadfile -m 'not alone'

quality: $(READY)
	@mkdir -p runs/quality
	@$(VENV)/bin/python docs/figures/quality.py runs/quality

golden: $(READY)
	@$(VENV)/bin/python -m pytest -q --update-golden tests/test_reports.py

clean:
	rm -rf $(VENV) build *.egg-info

$(READY): pyproject.toml constraints.txt
	@echo "installing into $(VENV), once; torch is large"
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,hf]'
	@touch $(READY)

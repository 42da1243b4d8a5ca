# Each target is one script; PYTHON=... picks the Python, VENV=... the environment (default .venv).
.PHONY: help demo demo-text demo-detect test lint clean

help:
	@echo "make demo   fine-tune a pretrained network on real pictures: two minutes after set-up"
	@echo "make demo-text   the same for texts: reviews, and a language model that is fetched first"
	@echo "make demo-detect   the same for boxes: crowns of trees in photographs from the air"
	@echo "make test   the tests"
	@echo "make lint   style, types and floors"
	@echo "make clean  remove the environment, the demo and what tools left"

demo:
	@scripts/demo

demo-text:
	@scripts/demo_text

demo-detect:
	@scripts/demo_detect

test:
	@scripts/test

lint:
	@scripts/lint

clean:
	rm -rf .venv demo build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

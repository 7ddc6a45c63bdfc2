"""Run infopt from a checkout: `python cli.py plan model.onnx --slo 20ms`."""

from planner.cli import main

if __name__ == "__main__":
    main()

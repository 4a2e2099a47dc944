"""What tests and the demo stand on: real servers, a stand-in Manager, clients. Imports nothing of the package."""

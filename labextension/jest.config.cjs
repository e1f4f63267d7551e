/** Logic only: what needs a browser is tested in a real one, see tests/browser. */
module.exports = {
  testMatch: ['<rootDir>/test/**/*.spec.ts'],
  testEnvironment: 'node',
  // JupyterLab's packages are ES modules in files that Node takes for CommonJS.
  transformIgnorePatterns: ['/node_modules/(?!@jupyterlab/)'],
  transform: {
    '^.+\\.[jt]sx?$': [
      'ts-jest',
      {
        diagnostics: false, // `tsc` tells them
        tsconfig: {
          allowJs: true,
          esModuleInterop: true,
          isolatedModules: true,
          jsx: 'react',
          module: 'commonjs',
          moduleResolution: 'node10',
          target: 'es2022'
        }
      }
    ]
  }
};
